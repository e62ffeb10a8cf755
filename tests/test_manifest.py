"""Manifests: paths resolved, keys checked, broken lines named."""

import json

import pytest

from xllm.errors import ManifestError
from xllm.manifest import read_manifest, samples
from xllm.steps.rows import Dropped, read_rows


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
        ('{"duration": NaN}\n', "NaN is not JSON"),
        ('{"duration": -Infinity}\n', "-Infinity is not JSON"),
        ('{"duration": 1e999}\n', "'duration' must be seconds"),
        ('{"duration": -1}\n', "'duration' must be seconds"),
        ('{"duration": true}\n', "'duration' must be seconds"),
        ('{"duration": 1' + "0" * 400 + "}\n", "'duration' must be seconds"),
        ('{"duration": 1' + "0" * 5000 + "}\n", "not valid JSON .Exceeds the limit"),
        ('{"response": "\\ud800"}\n', "'response' must be a string"),
        ('{"history": [{"instruction": "a", "response": "\\ud800"}]}\n', "'history' must be a list"),
        ('{"speech": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "too deeply nested"),
        ('{"speech": ' + "[" * 500 + "]" * 500 + "}\n", "'speech' must be a string"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", {"id": "1"}, line)
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}:2: ")


BROKEN = [
    b'{"id": "\xff", "speech": "a.wav"}',
    b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"id": "3", "duration": 1' + b"0" * 5000 + b"}",
    b"\x00\x01\x02",
]


def test_one_broken_row_is_one_row_lost_whoever_reads(tmp_path):
    path = tmp_path / "m.jsonl"
    good = [b'{"id": "%d", "speech": "a.wav"}' % number for number in range(5)]
    lines = [line for pair in zip(good, [*BROKEN, b""], strict=True) for line in pair]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    found = list(samples(path))
    assert [row["id"] for row in found if isinstance(row, dict)] == list("01234")
    assert [str(e).split(": ")[0] for e in found if not isinstance(e, dict)] == [f"{path}:{n}" for n in (2, 4, 6, 8)]
    rows = list(read_rows(path))
    assert [row["id"] for row in rows if isinstance(row, dict)] == list("01234")
    assert [r.id for r in rows if isinstance(r, Dropped)] == [f"m.jsonl:{n}" for n in (2, 4, 6, 8)]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(good))
    assert len(read_manifest(path)) == 5


def test_names_of_another_encoding_are_found_but_not_trained_on(tmp_path):
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    path = write(tmp_path / "m.jsonl", {"id": "a", "speech": name})
    assert [row["speech"] for row in samples(path)] == [str(tmp_path / name)]
    with pytest.raises(ManifestError, match="sample 'a': .* is not UTF-8; rename the file"):
        read_manifest(path)


def test_missing_and_binary_manifests(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ManifestError, match="not a manifest"):
        read_manifest(tmp_path / "b.jsonl")
