"""Shards: whole samples in WebDataset's layout, an index that opens them, the same bytes however they were made."""

import json
import tarfile

import pytest
import torch
from media_files import shades, tone, write_audio, write_film
from PIL import Image

from xllm.config import SpeechEncoderConfig
from xllm.films import load_frames
from xllm.manifest import read_manifest
from xllm.media import load_audio
from xllm.members import open_any
from xllm.pictures import load_picture
from xllm.steps import run as running
from xllm.steps.rows import read_rows
from xllm.steps.run import run
from xllm.steps.shard import NUMBER, Shard, numbered
from xllm.steps.workers import processes
from xllm.training.cache import Cache
from xllm.training.fbanks import Fbanks, stamp

PER = 4


@pytest.fixture
def manifest(tmp_path):
    """Ten rows; one's file is missing, one line is none, two have two pictures."""
    lines = []
    for number in range(10):
        write_audio(tmp_path / f"{number}.wav", tone(0.3, pitch=300 + 50 * number))
        Image.new("RGB", (9, 9), (number * 20, 0, 0)).save(tmp_path / f"{number}.p.png")
        row = {"id": f"a/b.{number}", "speech": f"{number}.wav", "image": f"{number}.p.png", "response": "天"}
        lines.append(json.dumps(row | ({"image": [row["image"], "0.p.png"]} if number > 7 else {})))
    write_film(tmp_path / "a.webm", shades(5))
    lines[3] = json.dumps({"id": "film", "video": "a.webm", "response": "地"})
    lines[5] = json.dumps({"id": "gone", "speech": "gone.wav", "response": "天"})
    lines[6] = "nonsense"
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    return tmp_path / "in.jsonl"


def sharded(manifest, name, **options):
    out = manifest.parent / name / "train.jsonl"
    scratch = running.work_folder(out)
    step = Shard(per_shard=PER, folder=out.parent, scratch=scratch, name="train")
    report = run(lambda: numbered(read_rows(manifest)), out, {}, step, chunk=PER, **options)
    return out, report


def test_samples_are_whole_and_other_loaders_read_them(manifest):
    out, report = sharded(manifest, "out")
    assert report.kept == 8 and report.failed == {"cannot be read": 1, "not a sample": 1}
    names = {}
    for path in sorted(out.parent.glob("*.tar")):
        with tarfile.open(path) as tar:
            names[path.name] = tar.getnames()
            assert {member.mtime for member in tar} == {0}
    assert list(names) == [f"train-{number:06d}.tar" for number in range(3)]
    assert names["train-000000.tar"][:3] == ["000000000.json", "000000000.png", "000000000.wav"]
    assert names["train-000000.tar"][-2:] == ["000000003.json", "000000003.webm"]
    assert names["train-000002.tar"] == [
        f"00000000{key}.{end}" for key in (8, 9) for end in ("json", "0.png", "1.png", "wav")
    ]
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(out.parent.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(sample["json"])["id"] for sample in samples] == [row["id"] for row in read_rows(out)]
    assert samples[1]["wav"] == (manifest.parent / "1.wav").read_bytes()
    assert json.loads(samples[0]["json"]) == {"id": "a/b.0", "speech": "wav", "image": "png", "response": "天"}
    assert json.loads(samples[-1]["json"])["image"] == ["0.png", "1.png"], "which is which"


def test_everything_that_opens_media_reads_through_the_index(manifest):
    out, _ = sharded(manifest, "out")
    rows = {row["id"]: row for row in read_manifest(out)}
    own = {row["id"]: row for row in read_rows(manifest) if isinstance(row, dict)}
    for name in ("a/b.9", "a/b.2"):  # at random
        assert torch.equal(load_audio(rows[name]["speech"]), load_audio(own[name]["speech"]))
        last = own[name]["image"] if isinstance(own[name]["image"], str) else own[name]["image"][-1]
        assert torch.equal(load_picture(rows[name]["image"][-1]), load_picture(last))
    assert torch.equal(load_frames(rows["film"]["video"], 3), load_frames(own["film"]["video"], 3))
    speech = [row["speech"] for row in rows.values() if row["speech"]]
    assert Fbanks(speech, SpeechEncoderConfig(mels=8), (1.0,), Cache(out.parent / "cache")).length(0) > 0
    before = stamp(speech[0])
    assert stamp(speech[0]) == before
    (out.parent / "train-000000.tar").touch()
    assert stamp(speech[0]) != before, "another shard is other features"


def test_shards_of_shards(manifest):
    """Members have no names; their first bytes say what they are."""
    out, _ = sharded(manifest, "out")
    again, _ = sharded(out, "again")
    with tarfile.open(again.parent / "train-000000.tar") as tar:
        assert tar.getnames()[:3] == ["000000000.json", "000000000.png", "000000000.wav"]
    assert len(list(read_rows(again))) == 8


@pytest.mark.parametrize(
    "name, start, kind",
    [
        ("x.pkl", b"\x80\x04", "bin"),
        ("x.json", b"{}", "bin"),
        ("x.图", b"\x89PNG", "png"),
        ("X.WAV", b"", "wav"),
        ("x", b"RIFF....WAVE", "wav"),
        ("x", b"RIFF....WEBP", "webp"),
        ("x", b"RIFF....AVI ", "avi"),
        ("x", b"....ftypisom", "mp4"),
        ("x", b"\xff\xf3", "mp3"),
    ],
)
def test_endings_are_those_of_media(tmp_path, name, start, kind):
    """Loaders do by endings what they do, unpickling too."""
    (tmp_path / name).write_bytes(start)
    step = Shard(folder=tmp_path, scratch=tmp_path)
    (row,) = step([{"id": "a", "video": str(tmp_path / name), NUMBER: 0}])
    with tarfile.open(tmp_path / "shard-000000.tar") as tar:
        assert tar.getnames() == ["000000000.json", f"000000000.{kind}"]
    with open_any(row["video"]) as file:
        assert file.read() == start


def test_what_is_left_out_leaves_nothing_in_the_shard(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"a")
    good = {"id": "good", "speech": str(tmp_path / "a.wav")}
    names = ["x" * 5000, "a\0b.wav", "\ud800.wav", ".", "none.wav", "none.tar:0:5"]
    rows = [good | {"id": name, "image": f"{tmp_path}/{name}"} for name in names]
    rows += [good | {"id": "words", "response": "\ud800"}, good]
    out = tmp_path / "out" / "x.jsonl"
    step = Shard(per_shard=99, folder=out.parent, scratch=running.work_folder(out), name="x")
    report = run(lambda: numbered(rows), out, {}, step, chunk=99)
    assert report.failed == {"cannot be read": 6, "not UTF-8": 1} and report.kept == 1
    with tarfile.open(out.parent / "x-000000.tar") as tar:
        assert tar.getnames() == ["000000007.json", "000000007.wav"]


class Stop(Exception):
    pass


def test_resumed_and_parallel_shards_are_the_same(manifest, monkeypatch):
    def tree(name):
        return {path.name: path.read_bytes() for path in sorted((manifest.parent / name).iterdir())}

    sharded(manifest, "whole")
    sharded(manifest, "parallel", mapper=processes(2))
    monkeypatch.setattr(running, "COMMIT", 0.0)

    def stop(report):
        raise Stop

    for _ in range(3):
        with pytest.raises(Stop):
            sharded(manifest, "cut", progress=stop)
    sharded(manifest, "cut")
    assert tree("whole") == tree("parallel") == tree("cut")
