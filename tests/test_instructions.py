"""What rows ask for, as the converters and steps write them: each task by its own instruction."""

import json

import pytest
from raw_corpora import activitynet, aishell1, coco, converted, llava, minigpt4, msr_vtt, visdial

from xllm.instructions import INSTRUCTIONS, Request, request
from xllm.modalities import MODALITIES
from xllm.steps.turns import Turns

ALL = tuple(MODALITIES)


def questions(tmp_path):
    """VSDial-CN as recipes/data/vsdial-cn.yaml makes it, untranslated, with the paths that `synthesize` adds."""
    rows = converted("visdial", visdial(tmp_path / "raw"), tmp_path / "out", "train").rows
    spoken = [row for made in Turns()(rows) if isinstance(made, list) for row in made]
    return [row | {"speech": f"{row['id']}.flac"} for row in spoken]


@pytest.mark.parametrize(
    ("name", "raw", "split", "about", "task"),
    [
        ("coco", coco, "train2014", "image", "image"),
        ("minigpt4", minigpt4, "train", "image", "image"),
        ("msr-vtt", msr_vtt, "train", "video", "video"),
        ("activitynet", activitynet, "train", "video", "video"),
        ("aishell-1", aishell1, "train", "speech", "asr"),
    ],
)
def test_a_corpus_trains_its_task(tmp_path, name, raw, split, about, task):
    rows = converted(name, raw(tmp_path / "raw"), tmp_path / "out", split).rows
    assert rows
    for row in rows:
        asked = Request({about: [row[about]] if isinstance(row[about], str) else row[about]}, INSTRUCTIONS[task], [])
        assert request(row, (about,)) == request(row, ALL) == asked
        other = "video" if about == "image" else "image"
        assert isinstance(request(row, (other,)), str), "nothing to learn of it there"


def test_a_question_of_vsdial_is_recognised_alone_or_beside_its_image(tmp_path):
    rows = questions(tmp_path)
    assert {len(row.get("history", [])) for row in rows} == {0, 1} and all(row["caption"] for row in rows)
    for row in rows:
        speech = {"speech": [row["speech"]]}
        assert request(row, ("speech",)) == Request(speech, INSTRUCTIONS["asr"], [])
        assert request(row, ALL) == Request({"image": [row["image"]]} | speech, INSTRUCTIONS["masr"], [])
        assert "what is said" in request(row, ("image",)), "the question is no description of the image"


def test_an_instruction_of_its_own_needs_all_media_and_its_turns(tmp_path):
    rows = converted("llava", llava(tmp_path / "raw"), tmp_path / "out", "all").rows
    later = next(row for row in rows if row.get("history"))
    asked = request(later, ("image",))
    assert asked == Request({"image": [later["image"]]}, (later["instruction"],), later["history"])
    spoken = later | {"speech": "q.flac"}
    assert request(spoken, ALL).history == later["history"]
    for about, left in (("image", "speech"), ("speech", "image")):
        assert request(spoken, (about,)) == f"its instruction is also about {left}, which this stage is not"


def test_what_has_no_task_says_so(monkeypatch):
    monkeypatch.setitem(MODALITIES, "robot", MODALITIES["image"])
    assert request({"response": "天"}, ("image",)) == "no media"
    assert request({"response": "天"}, ("speech",)) == Request({}, INSTRUCTIONS["asr"], []), "text stands for speech"
    asked = {"instruction": "天？", "response": "天"}
    assert "about no media" in request(asked, ("speech",)), "its answer must not stand where speech would"
    for row in ({"robot": "0.state"}, {"image": ["a.png"], "video": "a.mp4"}):
        assert request(row | {"response": "天"}, (*ALL, "robot")).startswith("no instruction, and none of its own for")


def test_wordings_are_five_different_ones():
    for task, wordings in INSTRUCTIONS.items():
        assert len(set(wordings)) == len(wordings) == (1 if task == "spoken" else 5), task
    every = [wording for wordings in INSTRUCTIONS.values() for wording in wordings]
    assert len(set(every)) == len(every) and json.dumps(every)
    assert INSTRUCTIONS["asr"][0] == "请忠实地识别语音" and INSTRUCTIONS["masr"][0] == "请根据图片忠实地识别语音"
