"""YAML as plain data: nothing twice, nothing endless, and whatever is wrong in one line with its place."""

import pytest

from xllm.errors import ConfigError
from xllm.yaml_files import MOST, apply_override, parse_override, parse_yaml, read_recipe, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: {lr: 1, b: 2, lr: 3}", "line 1, column 18: 'lr' is given twice, first in line 1, column 5"),
        ("s:\n  x: 1\n  y: 2\n  x: 3\n", "line 4, column 3: 'x' is given twice, first in line 2, column 3"),
        ("yes: 1\ntrue: 2", "line 2, column 1: True is given twice"),
        ("a:\n\tb: 1\n", "line 2, column 1: not valid YAML: .*; indent with spaces, not tabs"),
        ("a: [1\nb: 2\n", "line 2, column 2: not valid YAML: expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: not valid YAML"),
        ("a: !!python/object/apply:os.system [true]", "line 1, column 4: not valid YAML: could not determine"),
        ("a: 2024-13-45", "a value is not what it seems .*; quote it"),
        ("a: !!bool maybe", "a value is not what it seems"),
        ("a: \x00", "character 0x0000 at 3 is not allowed"),
        ("a: &a [1, *a]", "line 1, column 4: contains itself by an alias"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        (BOMB, f"more than {MOST:,} values, as aliases multiply them"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    for read in (lambda: read_yaml(tmp_path / "r.yaml"), lambda: parse_override(f"key={text}")):
        with pytest.raises(ConfigError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value) and str(caught.value).startswith((str(tmp_path / "r.yaml"), "override"))


def test_bytes_that_are_not_utf_8(tmp_path):
    (tmp_path / "r.yaml").write_bytes("name: 你好".encode("gb18030"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "r.yaml")


def test_a_mark_of_utf_8_and_what_aliases_share_are_read(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfbase: &b {x: 1, y: [2]}\nmore: {<<: *b, x: 3}\nagain: *b\n")
    assert read_yaml(tmp_path / "r.yaml") == {
        "base": {"x": 1, "y": [2]},
        "more": {"x": 3, "y": [2]},
        "again": {"x": 1, "y": [2]},
    }
    assert parse_yaml("", "nothing") is None


def test_an_override_changes_what_aliases_share_in_one_place_only():
    data = parse_yaml("a: &a {lr: 1, deep: {x: 1}}\nb: *a\nc:\n", "r")
    changed = apply_override(data, ["a", "deep", "x"], 2, "a.deep.x=2")
    assert changed == {"a": {"lr": 1, "deep": {"x": 2}}, "b": {"lr": 1, "deep": {"x": 1}}, "c": None}
    assert apply_override(data, ["c", "new"], 1, "c.new=1")["c"] == {"new": 1}, "an empty section"
    with pytest.raises(ConfigError, match="'lr' is a value, not a section"):
        apply_override(data, ["a", "lr", "x"], 1, "a.lr.x=1")


def test_a_base_that_comes_round_under_another_name_is_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("base: sub/../b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: sub/../a.yaml\n")
    with pytest.raises(ConfigError, match="'base' names another recipe"):
        read_recipe(tmp_path / "a.yaml")
