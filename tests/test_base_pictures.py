"""The scripts of recipes/base that make manifests of images and videos, on four photographs and a few emoji."""

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora.test_tiny_pictures import ANIMALS, packages, stamps  # noqa: F401 - fixtures
from PIL import Image
from safetensors.torch import save_file
from small_models import timm_folder
from timm.data import ImageNetInfo

from xllm.config import ModelConfig, VisionEncoderConfig
from xllm.films import load_frames
from xllm.manifest import iterate_manifest
from xllm.modalities import MODALITIES
from xllm.pictures import load_picture
from xllm.vision.encoder import VisionEncoder

COLOURS = {"猕猴桃": (20, 160, 20), "油桃": (220, 60, 10), "烙饼": (200, 180, 120)}


@pytest.fixture
def data(tmp_path):
    """Two photographs that train, and one each of dev and test, whose test names are taught but for one."""
    folder, rows = tmp_path / "data" / "photos", []
    folder.mkdir(parents=True)
    for split, labels in {"train": ["猕猴桃", "油桃"], "dev": ["油桃"], "test": ["猕猴桃", "烙饼"]}.items():
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            for i, label in enumerate(labels):
                name, jpeg = f"{split}{i}", io.BytesIO()
                Image.new("RGB", (40, 20), COLOURS[label]).save(jpeg, "jpeg")
                info = tarfile.TarInfo(f"{name}.jpg")
                info.size = len(jpeg.getvalue())
                tar.addfile(info, io.BytesIO(jpeg.getvalue()))
                row = {"id": name, "file": f"{name}.jpg", "tar": f"{split}.tar", "label": label, "split": split}
                rows.append(row | {"accept": [label, "水果"], "caption": f"图中是{label}。"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def run(module, monkeypatch, *arguments) -> None:
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_photographs_are_asked_for_and_described_and_move(script, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(script("pictures"), monkeypatch, data, out)
    name, caption, *_ = train = list(iterate_manifest(out / "photos-train.jsonl"))
    assert len(train) == 4 and (name["response"], name["accept"]) == ("猕猴桃", ["猕猴桃", "水果"])
    assert (caption["id"], caption["response"], caption["instruction"]) == ("train0-caption", "图中是猕猴桃。", None)
    assert load_picture(name["image"][0]).shape == (3, 20, 40) and caption["image"] == name["image"]
    assert [row["response"] for row in iterate_manifest(out / "photos-test.jsonl")] == ["猕猴桃", "烙饼"]
    monkeypatch.setattr(script("films"), "COUNTS", {"train": 6, "dev": 2, "test": 2})
    run(script("films"), monkeypatch, out, "--train", 6)
    videos = {part: list(iterate_manifest(out / f"videos-{part}.jsonl")) for part in ("train", "dev", "test")}
    assert [len(rows) for rows in videos.values()] == [6, 2, 2]
    pairs = [{row["response"] for row in rows} for rows in videos.values()]
    assert not pairs[0] & pairs[1] and not pairs[0] & pairs[2]
    for row in videos["test"]:
        assert row["response"].startswith("猕猴桃") and row["accept"][1] == row["response"].replace("猕猴桃", "水果")
        assert row["told"]["video"].count("|") == 7
    assert load_frames(Path(videos["train"][0]["video"]), 8).shape == (8, 3, 192, 192)


@pytest.mark.parametrize(("photograph", "middle"), [(True, (250, 250, 250)), (False, (245, 225, 186))])
def test_paper_shows_through_the_white_of_an_emoji_and_not_of_a_photograph(script, photograph, middle):
    films = script("films")
    picture = Image.new("RGB", (50, 50), (250, 250, 250))
    drawn = films.frame(picture, photograph, "#ffebc4", films.Pose(56, 56, 60))
    assert drawn.getpixel((1, 1)) == (255, 235, 196)
    assert np.abs(np.subtract(drawn.getpixel((96, 96)), middle)).max() <= 6


def test_a_name_is_left_for_every_picture_that_is_held_out(script):
    shown = [(f"{style}/{name}", name) for style in "ab" for name in "猫狗马"] + [("a/虾", "虾")]
    train, held = script("pictures").hold_out(shown, 10, random.Random(0))
    assert len(held) == 3 and {name for _, name in train} == set("猫狗马虾") and not set(train) & set(held)


def test_every_class_of_imagenet_has_a_name():
    path = Path(__file__).parents[1] / "recipes/base/imagenet_zh.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [line.split("\t") for line in lines]
    assert [int(number) for number, _ in names] == list(range(1000)) and all(name for _, name in names)
    described = ImageNetInfo("imagenet-1k").index_to_description
    for number, english, chinese in ((207, "golden retriever", "金毛寻回犬"), (867, "trailer truck", "卡车")):
        assert english in described(number) and names[number][1] == chinese


def test_a_linear_classifier_is_measured_on_an_encoder_of_a_folder(script, data, tmp_path, monkeypatch, capsys):
    timm_folder("test_vit", tmp_path / "weights")
    run(script("pictures"), monkeypatch, data, tmp_path / "out")
    capsys.readouterr()
    run(script("probe"), monkeypatch, tmp_path / "out", tmp_path / "weights", "--name", "test_vit")
    every, _ = capsys.readouterr().out.splitlines()
    assert every == "2 photographs of 2 names, at most 7 each: dev 100.0%, test 50.0%"  # one test name is not taught


def test_classes_that_no_photograph_shows_get_features_of_others(script, data, tmp_path, monkeypatch, capsys):
    weights = timm_folder("test_efficientnet", tmp_path / "weights").state_dict()
    weights["classifier.weight"] *= 300  # sure of what it sees
    save_file(weights, tmp_path / "weights/model.safetensors")
    run(script("pictures"), monkeypatch, data, tmp_path / "out")
    standins = script("standins")
    (tmp_path / "names.txt").write_text("0\t油桃\n1\t金鱼\n2\t鲨\n999\t水果\n", encoding="utf-8")
    monkeypatch.setattr(standins, "NAMES", tmp_path / "names.txt")
    (tmp_path / "units.txt").write_text("油\n桃\n金\n鱼\n水\n果")
    arguments = ("--name", "test_efficientnet", "--units", tmp_path / "units.txt")
    run(standins, monkeypatch, tmp_path / "out", tmp_path / "weights", *arguments)
    rows = list(iterate_manifest(tmp_path / "out/standins-train.jsonl"))
    assert {row["response"] for row in rows} == {"金鱼"} and len(rows) == 4
    assert "4 rows of 1 names\nleft out: 3 of 4 classes" in capsys.readouterr().out
    folder = str(tmp_path / "weights")
    encoder = VisionEncoder(VisionEncoderConfig(name="test_efficientnet", pretrained=folder, classes=True)).eval()
    config = ModelConfig(vision=encoder.config)
    image, (photo, *_) = MODALITIES["image"], iterate_manifest(tmp_path / "out/photos-train.jsonl")
    with torch.no_grad():
        pixels = image.load(photo["image"][0], config, None)
        logits = encoder.vit((pixels - encoder.mean) / encoder.std)[0]
        wanted = encoder(pixels)[0, -2:]
        wanted[1] = encoder.norm(encoder.mean_class(standins.exchange(logits, 1)))
        found = [image.tokens(encoder, [image.load(row["image"][0], config, None)])[0][0, -2:] for row in rows]
    assert any(torch.allclose(value, wanted, atol=1e-2) for value in found)


def test_the_likeliest_class_and_another_change_places(script):
    logits = torch.tensor([1.0, 4.0, 2.0, 0.0])
    assert script("standins").exchange(logits, 3).tolist() == [1.0, 0.0, 2.0, 4.0]
    assert script("standins").exchange(logits, 1).tolist() == logits.tolist()


def test_emoji_are_drawn_once_and_one_style_is_for_tests_alone(
    script,
    data,
    packages,  # noqa: F811
    stamps,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
):
    out = tmp_path / "out"
    (tmp_path / "units.txt").write_text("\n".join(ANIMALS + "一个瓢虫"))
    monkeypatch.setattr(script("pictures"), "DEV", 0.1)
    arguments = (data, out, "--packages", packages, "--stamps", stamps, "--units", tmp_path / "units.txt")
    run(script("pictures"), monkeypatch, *arguments)
    assert "2 of 5 stamps have names of known characters" in capsys.readouterr().out
    rows = {part: list(iterate_manifest(out / f"emoji-{part}.jsonl")) for part in ("train", "dev", "test-style")}
    styles = {part: {row["id"].partition("/")[0] for row in found} for part, found in rows.items()}
    assert styles["test-style"] == {"openmoji"} and not styles["train"] & styles["test-style"]
    assert {row["response"] for row in rows["test-style"]} == set(ANIMALS)
    assert "瓢虫" in {row["response"] for row in rows["train"]} and len(rows["dev"]) == round(43 * 0.1)
    assert load_picture(rows["train"][0]["image"][0]).shape == (3, 256, 256)
    before = Path(rows["train"][0]["image"][0]).stat().st_mtime_ns
    run(script("pictures"), monkeypatch, *arguments)
    assert Path(rows["train"][0]["image"][0]).stat().st_mtime_ns == before
