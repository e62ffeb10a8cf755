"""Instructions of `tiny`: what is told can be asked, and the answer follows from it."""

from collections import Counter

import pytest

from xllm.checkpoint import find
from xllm.corpora.tiny_instructions import (
    ASK,
    MOTIONS,
    NO,
    YES,
    film,
    frame_states,
    heard_with_picture,
    invented,
    told_rows,
)
from xllm.manifest import FRAME, keys
from xllm.speech.units import Units

CONCEPTS = [("熊猫", "动物"), ("苹果", "水果"), ("银河", None)]


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("frames", [4, 8])
def test_the_frames_of_a_motion_tell_it_from_all_others(motion, frames):
    states = frame_states(motion, frames)
    assert len(states) == frames and set(states) == set(MOTIONS[motion])
    assert all(states != frame_states(other, frames) for other in MOTIONS if other != motion)


def test_a_film_says_what_each_frame_shows():
    assert film("熊猫", ["左", "无", "右"]) == FRAME.join(["熊猫左", "无", "熊猫右"])


def test_answers_follow_from_what_is_told():
    rows = list(told_rows(CONCEPTS, ["学校"], seed=1))
    assert rows == list(told_rows(CONCEPTS, ["学校"], seed=1)) != list(told_rows(CONCEPTS, ["学校"], seed=2))
    assert all(set(row) <= set(keys()) and row["instruction"] and row["response"] for row in rows)
    for row in rows:
        told, answer = row["told"], row["response"]
        if "video" in told:
            assert set(told["video"].split(FRAME)[0]) <= set(answer + "左右上下大小中无")
            assert row["instruction"] in ASK["video"]
        elif answer not in (YES, NO):
            assert answer == told["image"]
        elif "speech" not in told:
            assert (answer == YES) == (told["image"] in row["instruction"])
        if "speech" in told:
            assert len(row["reading"].split()) == len(told["speech"]) and row["instruction"] in ASK["speech"]
    assert {row["response"] for row in rows if "动物" in row["instruction"]} == {"熊猫"}


def test_invented_names_use_every_character_alike():
    names = invented("熊猫苹果", 4000, seed=1)
    assert names == invented("熊猫苹果", 4000, seed=1) != invented("熊猫苹果", 4000, seed=2)
    assert {len(name) for name in names} == set(range(1, 7))
    counts = Counter("".join(names))
    assert counts.keys() == set("熊猫苹果") and min(counts.values()) > 0.8 * max(counts.values())


def test_the_packaged_system_can_spell_every_motion():
    assert set("".join(MOTIONS)) <= set(Units.load(find("tiny") / "tokenizer").characters)


def test_a_picture_beside_speech_shows_something_that_is_said():
    sentences = [
        {"response": "我爱大熊猫。", "reading": "wo3 ai4 da4 xiong2 mao1"},
        {"response": "天很高。", "reading": "tian1 hen3 gao1"},
    ]
    rows = list(heard_with_picture(sentences, ["熊猫", "高"]))
    assert [row["told"] for row in rows] == [{"image": "熊猫", "speech": "我爱大熊猫"}]
    assert rows[0]["response"] == sentences[0]["response"] and rows[0]["reading"] == sentences[0]["reading"]
