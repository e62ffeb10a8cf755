"""Captioned pictures in miniature: COCO, Visual Genome, Flickr30k, Flickr30k-CN and AI Challenger."""

import tarfile
import zipfile
from base64 import b64encode

import pytest
from raw_corpora import (
    ai_challenger,
    coco,
    converted,
    flickr30k,
    flickr30k_cn,
    picture,
    tar,
    tree,
    visual_genome,
    write,
    zipped,
)

from xllm.corpora import archives
from xllm.pictures import load_picture


def grey(path: str) -> int:
    return round(load_picture(path).float().mean().item())


def test_coco(tmp_path):
    result = converted("coco", coco(tmp_path / "raw"), tmp_path / "out", "train2014")
    assert result.rows == [
        {
            "id": f"coco-{100 + n}",
            "image": f"../raw/train2014/COCO_train2014_{i:012}.jpg",
            "response": f"A dog {n}",
            "source": "coco",
        }
        for n, i in enumerate((9, 25, 9))
    ]
    assert result.dropped == {"coco-99": "no such image"} and result.report.inputs == 4
    assert [grey(result.path(n, "image")) for n in range(2)] == [9, 25]
    assert len(converted("coco", tmp_path / "raw", tmp_path / "out", "val2014").rows) == 2


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_coco_as_it_comes(tmp_path, method):
    """Zips of images, stored or not, and of annotations; or all in one folder `images`."""
    loose = converted("coco", coco(tmp_path / "loose"), tmp_path / "out0", "train2014")
    for name in ("annotations", "train2014"):
        zipped(tmp_path / "raw" / f"{name}.zip", tmp_path / "loose", [name], method)
    result = converted("coco", tmp_path / "raw", tmp_path / "out1", "train2014")
    assert result.contents() == loose.contents() and result.dropped == loose.dropped
    place = "../raw/train2014.zip:" if method == zipfile.ZIP_STORED else "unpacked/train2014.zip.tar:"
    assert result.rows[0]["image"].startswith(place) and grey(result.path(1, "image")) == 25
    rows = loose.contents()
    (tmp_path / "loose" / "images").mkdir()
    (tmp_path / "loose" / "train2014").rename(tmp_path / "loose" / "images" / "train2014")
    assert converted("coco", tmp_path / "loose", tmp_path / "out2", "train2014").contents() == rows


def test_visual_genome(tmp_path):
    result = converted("vg", visual_genome(tmp_path / "raw"), tmp_path / "out", "train")
    assert [(row["id"], row["image"], row["response"]) for row in result.rows] == [
        ("vg-10", "../raw/VG_100K/1.jpg", "thing 0"),
        ("vg-11", "../raw/VG_100K/1.jpg", "thing 1"),
        ("vg-20", "../raw/VG_100K_2/2.jpg", "thing 0"),
        ("vg-21", "../raw/VG_100K_2/2.jpg", "thing 1"),
    ]
    assert result.dropped == {"vg-30": "no such file", "vg-31": "no such file"} and result.report.inputs == 6
    for name, held, method in (
        ("images", "VG_100K", 0),
        ("images2", "VG_100K_2", 0),
        ("region_descriptions.json", "region_descriptions.json", 8),
    ):
        zipped(tmp_path / "packed" / f"{name}.zip", tmp_path / "raw", [held], method)
    packed = converted("vg", tmp_path / "packed", tmp_path / "out1", "train")
    assert packed.contents() == result.contents() and packed.dropped == result.dropped
    assert grey(packed.path(3, "image")) == 2


def test_flickr30k(tmp_path):
    result = converted("flickr30k", flickr30k(tmp_path / "raw"), tmp_path / "out", "all")
    assert [(row["id"], row["response"]) for row in result.rows] == [
        ("flickr30k-100.jpg-0", "Two men ."),
        ("flickr30k-100.jpg-1", "Men with a # and a | ."),
        ("flickr30k-200.jpg-0", "A girl ."),
    ]
    assert result.report.inputs == 5 and result.report.failed == {"broken line": 1}
    assert result.dropped == {"flickr30k:3": "broken line", "flickr30k-300.jpg-0": "no such file"}
    tar(tmp_path / "packed" / "flickr30k-images.tar", tmp_path / "raw", ["flickr30k-images"])
    tar(tmp_path / "packed" / "flickr30k.tar.gz", tmp_path / "raw", ["results_20130124.token"], "w:gz")
    packed = converted("flickr30k", tmp_path / "packed", tmp_path / "out1", "all")
    assert packed.contents() == result.contents() and packed.dropped == result.dropped
    assert (
        packed.rows[0]["image"].startswith("../packed/flickr30k-images.tar:") and grey(packed.path(2, "image")) == 200
    )


def test_flickr30k_as_kaggle_has_it(tmp_path):
    flickr30k(tmp_path / "raw")
    (tmp_path / "raw" / "results_20130124.token").unlink()
    lines = ["image_name| comment_number| comment", "100.jpg| 0| Two men .", "200.jpg| 4   A dog ."]
    write(tmp_path / "raw" / "flickr30k_images" / "results.csv", "\n".join(lines))
    (tmp_path / "raw" / "flickr30k-images").rename(tmp_path / "raw" / "flickr30k_images" / "flickr30k_images")
    result = converted("flickr30k", tmp_path / "raw", tmp_path / "out", "all")
    assert [(row["id"], row["response"]) for row in result.rows] == [("flickr30k-100.jpg-0", "Two men .")]
    assert result.dropped == {"flickr30k:3": "broken line"}


def test_flickr30k_cn(tmp_path):
    result = converted("flickr30k-cn", flickr30k_cn(tmp_path / "raw"), tmp_path / "out", "train")
    assert [(row["id"], row["response"]) for row in result.rows] == [
        ("flickr30k-cn-train-1", "两个人"),
        ("flickr30k-cn-train-2", "人们"),
        ("flickr30k-cn-train-3", "女孩"),
    ]
    assert result.report.dropped == {"no such file": 2} and result.report.failed == {"broken line": 2}
    assert result.report.inputs == 7
    assert result.rows[0]["image"] == result.rows[1]["image"] and result.rows[0]["image"].startswith(
        "unpacked/train_imgs.tar:"
    )
    assert [grey(result.path(n, "image")) for n in (0, 2)] == [100, 200]
    with tarfile.open(tmp_path / "out" / "unpacked" / "train_imgs.tar") as held:
        assert held.getnames() == ["train_imgs/100.jpg", "train_imgs/200.jpg"]
    assert converted("flickr30k-cn", tmp_path / "raw", tmp_path / "out", "test").rows[0]["response"] == "测试"
    zipped(tmp_path / "Flickr30k-CN.zip", tmp_path / "raw")
    packed = converted("flickr30k-cn", tmp_path / "Flickr30k-CN.zip", tmp_path / "out1", "train")
    assert packed.contents() == result.contents() and packed.dropped == result.dropped


def test_flickr30k_cn_stopped_while_unpacking(tmp_path, monkeypatch):
    raw = flickr30k_cn(tmp_path / "raw")
    converted("flickr30k-cn", raw, tmp_path / "whole", "train")
    add = archives.Copies.add

    def stop(self, name, *member):
        if "200" in name:
            raise KeyboardInterrupt
        return add(self, name, *member)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archives.Copies, "add", stop)
        converted("flickr30k-cn", raw, tmp_path / "cut", "train")
    assert not (tmp_path / "cut" / "train.jsonl").exists() and not list(tmp_path.glob("cut/unpacked/*"))
    converted("flickr30k-cn", raw, tmp_path / "cut", "train")
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_flickr30k_cn_keeps_no_image_in_memory_as_text(tmp_path):
    """A line longer than most buffers, byte for byte."""
    noise = picture(tmp_path / "n.png", 7).read_bytes() + bytes(range(256)) * 9000
    write(tmp_path / "raw" / "valid_imgs.tsv", b"5\t" + b64encode(noise) + b"\r\n")
    write(tmp_path / "raw" / "valid_texts.jsonl", '\ufeff{"text_id": 0, "text": "噪声", "image_ids": [5]}\r\n')
    result = converted("flickr30k-cn", tmp_path / "raw", tmp_path / "out", "valid")
    archive, offset, length = result.path(0, "image").rsplit(":", 2)
    with open(archive, "rb") as file:
        file.seek(int(offset))
        assert file.read(int(length)) == noise


def test_ai_challenger(tmp_path):
    result = converted("ai-challenger", ai_challenger(tmp_path / "raw"), tmp_path / "out", "train")
    base = "../raw/ai_challenger_caption_train_20170902/caption_train_images_20170902"
    assert [row["id"] for row in result.rows] == [f"ai-challenger-8f00.jpg-{n}" for n in (0, 1, 3, 4)]
    assert {row["image"] for row in result.rows} == {f"{base}/8f00.jpg"} and grey(result.path(0, "image")) == 80
    assert result.rows[2]["response"] == "三个人"
    assert result.report.inputs == 10 and result.report.dropped == {"no words": 2, "no such file": 4}
    assert len(converted("ai-challenger", tmp_path / "raw", tmp_path / "out", "validation").rows) == 4
    zipped(tmp_path / "packed" / "ai_challenger_caption_train_20170902.zip", tmp_path / "raw")
    packed = converted("ai-challenger", tmp_path / "packed", tmp_path / "out1", "train")
    assert packed.contents() == result.contents() and packed.dropped == result.dropped
