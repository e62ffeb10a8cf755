"""Dialogues and instructions in miniature: VisDial, MiniGPT-4 and LLaVA."""

import json

import pytest
from raw_corpora import converted, llava, minigpt4, visdial, write, zipped

from xllm.manifest import iterate_manifest
from xllm.pictures import load_picture


def test_visdial(tmp_path):
    train = converted("visdial", visdial(tmp_path / "raw"), tmp_path / "out", "train")
    assert train.rows == [
        {
            "id": "visdial-train-9",
            "image": "../raw/train2014/COCO_train2014_000000000009.jpg",
            "caption": "picture 9",
            "history": [
                {"instruction": "is it sunny", "response": "yes"},
                {"instruction": "what color is it", "response": "red"},
            ],
            "source": "visdial",
        },
        {
            "id": "visdial-train-25",
            "image": "../raw/val2014/COCO_val2014_000000000025.jpg",
            "caption": "picture 25",
            "history": [{"instruction": "any people", "response": "no"}],
            "source": "visdial",
        },
    ]
    assert train.dropped == {"visdial-train-30": "no such text"} and train.report.inputs == 3
    (val,) = converted("visdial", tmp_path / "raw", tmp_path / "out", "val").rows
    assert val["image"] == "../raw/VisualDialog_val2018/VisualDialog_val2018_000000185565.jpg"
    (test,) = converted("visdial", tmp_path / "raw", tmp_path / "out", "test").rows
    assert test["history"][-1] == {"instruction": "what color is it", "response": ""}
    assert "response" not in test
    assert [sample["id"] for sample in iterate_manifest(tmp_path / "out" / "test.jsonl")] == ["visdial-test-568676"]


def test_visdial_as_it_comes(tmp_path):
    loose = visdial(tmp_path / "loose")
    expected = {split: converted("visdial", loose, tmp_path / "out0", split) for split in ("train", "val", "test")}
    for name in ("train2014", "val2014", "VisualDialog_val2018", "VisualDialog_test2018"):
        zipped(tmp_path / "raw" / f"{name}.zip", loose, [name], 0 if "2014" in name else 8)
    for split in expected:
        zipped(tmp_path / "raw" / f"visdial_1.0_{split}.zip", loose, [f"visdial_1.0_{split}.json"])
    for split, result in expected.items():
        packed = converted("visdial", tmp_path / "raw", tmp_path / "out1", split)
        assert packed.contents() == result.contents() and packed.dropped == result.dropped
    assert load_picture(packed.path(0, "image")).float().mean().round().item() == 76


@pytest.mark.parametrize(
    "order", [("questions", "answers", "dialogs"), ("dialogs", "answers", "questions"), ("dialogs",)]
)
@pytest.mark.parametrize("wrong", [3, -1])
def test_visdial_indices(tmp_path, order, wrong):
    """Wherever the texts stand, and whether they do; an index must not count from the end."""
    path = visdial(tmp_path / "raw") / "visdial_1.0_train.json"
    whole = json.loads(path.read_text())
    whole["data"]["dialogs"][1]["dialog"][0]["question"] = wrong
    whole["data"] = {key: whole["data"][key] for key in order}
    path.write_text("\ufeff" + json.dumps(whole))
    result = converted("visdial", tmp_path / "raw", tmp_path / "out", "train")
    assert [row["id"] for row in result.rows] == (["visdial-train-9"] if len(order) == 3 else [])
    assert result.report.inputs == 3 and set(result.dropped.values()) == {"no such text"}


def test_minigpt4(tmp_path):
    result = converted("minigpt4", minigpt4(tmp_path / "raw"), tmp_path / "out", "train")
    assert result.rows == [
        {
            "id": "minigpt4-2",
            "image": "../raw/cc_sbu_align/image/2.jpg",
            "response": "A long text.",
            "source": "minigpt4",
        }
    ]
    assert result.report.dropped == {"no such file": 1, "duplicate": 1} and result.report.inputs == 3
    packed = converted("minigpt4", zipped(tmp_path / "cc_sbu_align.zip", tmp_path / "raw"), tmp_path / "out1", "train")
    assert packed.contents() == result.contents() and packed.dropped == result.dropped


def test_llava(tmp_path):
    result = converted("llava", llava(tmp_path / "raw"), tmp_path / "out", "all")
    first = {"instruction": "What is it?", "response": "A dog."}
    image = "../raw/train2017/000000000009.jpg"
    assert result.rows == [
        {"id": "llava-all-1-1", "image": image, **first, "source": "llava"},
        {
            "id": "llava-all-1-2",
            "image": image,
            "history": [first],
            "instruction": "Which color?",
            "response": "Brown.",
            "source": "llava",
        },
        {
            "id": "llava-all-2-1",
            "image": image,
            "instruction": "Describe it.",
            "response": "A brown dog.",
            "source": "llava",
        },
        {
            "id": "llava-all-3-1",
            "image": "../raw/train2014/COCO_train2014_000000000025.jpg",
            "instruction": "And this?",
            "response": "A cat.",
            "source": "llava",
        },
    ]
    assert result.dropped == {"llava-all-4-1": "no such file", "llava-all-5": "broken dialogue"}
    assert result.report.inputs == 6 and result.report.failed == {"broken dialogue": 1}
    (detail,) = converted("llava", tmp_path / "raw", tmp_path / "out", "detail").rows
    assert detail["id"] == "llava-detail-1-1" and detail["response"] == "A brown dog."
    zipped(tmp_path / "packed" / "train2017.zip", tmp_path / "raw", ["train2017"], 0)
    write(tmp_path / "packed" / "detail_23k.json", (tmp_path / "raw" / "detail_23k.json").read_bytes())
    packed = converted("llava", tmp_path / "packed", tmp_path / "out1", "detail")
    assert packed.rows[0]["image"].startswith("../packed/train2017.zip:")
    assert load_picture(packed.path(0, "image")).float().mean().round().item() == 9
