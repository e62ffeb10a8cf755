"""Captioned films in miniature: MSR-VTT and ActivityNet Captions."""

import pytest
from raw_corpora import activitynet, converted, msr_vtt, tar, zipped

from xllm.films import load_frames


def grey(path: str) -> float:
    return load_frames(path, 2).float().mean().item()


def test_msr_vtt(tmp_path):
    msr_vtt(tmp_path / "raw")
    train = converted("msr-vtt", tmp_path / "raw", tmp_path / "out", "train")
    assert train.rows == [
        {
            "id": f"msr-vtt-video0-{n}",
            "video": "../raw/TrainValVideo/video0.mp4",
            "response": caption,
            "source": "msr-vtt",
        }
        for n, caption in ((1, "a"), (2, "b"))
    ]
    assert train.dropped == {"msr-vtt-video1-3": "no such file", "msr-vtt-video9-4": "no such clip"}
    assert train.report.inputs == 4 and grey(train.path(0, "video")) == pytest.approx(40, abs=4)
    validate = converted("msr-vtt", tmp_path / "raw", tmp_path / "out", "validate")
    assert [row["id"] for row in validate.rows] == ["msr-vtt-video2-0"] and validate.report.inputs == 2
    test = converted("msr-vtt", tmp_path / "raw", tmp_path / "out", "test")
    assert [row["video"] for row in test.rows] == ["../raw/TestVideo/video7.mp4"] and not test.dropped


def test_msr_vtt_as_it_comes(tmp_path):
    loose = msr_vtt(tmp_path / "loose")
    expected = {s: converted("msr-vtt", loose, tmp_path / "out0", s) for s in ("train", "validate", "test")}
    for part in ("train_val", "test"):
        zipped(tmp_path / "raw" / f"{part}_annotation.zip", loose, [f"{part}_videodatainfo.json"])
    zipped(tmp_path / "raw" / "videos.zip", loose, ["TrainValVideo", "TestVideo"], 0)
    for split, result in expected.items():
        packed = converted("msr-vtt", tmp_path / "raw", tmp_path / "out1", split)
        assert packed.contents() == result.contents() and packed.dropped == result.dropped
        assert packed.rows[0]["video"].startswith("../raw/videos.zip:")
        assert grey(packed.path(0, "video")) == pytest.approx({"train": 40, "validate": 120, "test": 200}[split], abs=4)


def test_msr_vtt_with_all_clips_in_one_folder(tmp_path):
    raw = msr_vtt(tmp_path / "raw")
    for old, new in (("train_val_videodatainfo.json", "annotation"), ("TrainValVideo", "videos")):
        (raw / new).mkdir()
        (raw / old).rename(raw / new / {"TrainValVideo": "all"}.get(old, old))
    result = converted("msr-vtt", raw, tmp_path / "out", "train")
    assert [row["video"] for row in result.rows] == ["../raw/videos/all/video0.mp4"] * 2


def test_activitynet(tmp_path):
    activitynet(tmp_path / "raw")
    train = converted("activitynet", tmp_path / "raw", tmp_path / "out", "train")
    assert train.rows == [
        {
            "id": f"activitynet-train-{video}",
            "video": f"../raw/videos/{video}{suffix}",
            "response": f"{video} begins. It ends in train.",
            "source": "activitynet",
        }
        for video, suffix in (("v_a", ".mp4"), ("v_-b", ".mkv"))
    ]
    assert train.dropped == {"activitynet-train-v_c": "no such file"}
    assert [grey(train.path(n, "video")) for n in (0, 1)] == pytest.approx([40, 120], abs=4)
    for split in ("val_1", "val_2"):
        (row,) = converted("activitynet", tmp_path / "raw", tmp_path / "out", split).rows
        assert row["id"] == f"activitynet-{split}-v_d" and row["response"] == f"v_d begins. It ends in {split}."
        assert row["video"] == "../raw/v1-2/val/v_d.webm"


def test_activitynet_as_it_comes(tmp_path):
    loose = activitynet(tmp_path / "loose")
    expected = converted("activitynet", loose, tmp_path / "out0", "train")
    zipped(tmp_path / "raw" / "captions.zip", loose, ["train.json", "val_1.json", "val_2.json"])
    tar(tmp_path / "raw" / "films.tar.gz", loose, ["videos"], "w:gz")
    packed = converted("activitynet", tmp_path / "raw", tmp_path / "out1", "train")
    assert packed.contents() == expected.contents() and packed.dropped == expected.dropped
    assert grey(packed.path(1, "video")) == pytest.approx(120, abs=4)
