"""Manifests: paths resolved, keys checked, broken lines named."""

import json

import pytest

from xllm.errors import ManifestError
from xllm.manifest import read_manifest


def write(path, *lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_rows_of_several_manifests_with_resolved_paths(tmp_path):
    (tmp_path / "sub").mkdir()
    a = write(tmp_path / "a.jsonl", {"id": "1", "speech": "x.wav", "response": "你", "duration": 1.5})
    b = write(tmp_path / "sub" / "b.jsonl", {"response": "好", "image": "y.png"}, "\n", {"id": "3", "speech": "/z.wav"})
    rows = read_manifest(a, b)
    assert rows["id"][:] == ["1", f"{b}:1", "3"]
    assert rows["speech"][:] == [str(tmp_path / "x.wav"), None, "/z.wav"]
    assert rows[1]["image"] == [str(tmp_path / "sub" / "y.png")]
    assert rows[0]["duration"] == pytest.approx(1.5)


def test_a_changed_manifest_is_read_again(tmp_path):
    path = write(tmp_path / "a.jsonl", {"id": "1", "response": "你"})
    assert len(read_manifest(path)) == 1
    write(path, {"id": "1", "response": "你"}, {"id": "2", "response": "好"})
    assert len(read_manifest(path)) == 2


@pytest.mark.parametrize(
    "line, message",
    [
        ("{broken\n", "not valid JSON"),
        ("[1]\n", "JSON object"),
        ('{"speech": 3}\n', "'speech' must be a string"),
        ('{"duration": "long"}\n', "'duration' must be seconds"),
        ('{"image": [1]}\n', "'image' must be a path"),
        ('{"image": {}}\n', "'image' must be a path"),
        ('{"history": "hello"}\n', "'history' must be a list"),
        ('{"history": [{"instruction": "a"}]}\n', "'history' must be a list"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", {"id": "1"}, line)
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_missing_and_binary_manifests(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ManifestError, match="not a manifest"):
        read_manifest(tmp_path / "b.jsonl")
