"""Exact answers: counting, swapping what is shown, drawing rows, and rows that cannot be asked."""

import json

import pytest

from xllm.errors import ManifestError, XLLMError
from xllm.evaluation.answers import Answered, accuracy, answers, read_questions, swapped


def results(right, wrong):
    return [Answered("a", "?", "猫", "猫。")] * right + [Answered("b", "?", "猫", "狗")] * wrong


def test_punctuation_does_not_count_and_the_interval_is_wilsons():
    counted = accuracy(results(8, 2))
    assert (counted.percent, counted.questions) == (80.0, 10)
    assert (counted.low, counted.high) == pytest.approx((49.0, 94.3), abs=0.1)  # Wilson (1927)
    assert accuracy(results(0, 5)).low == 0 and accuracy(results(5, 0)).high == 100
    with pytest.raises(ValueError, match="no answers"):
        accuracy([])


def test_another_text_that_a_row_accepts_is_right():
    asked = ("a", "?", "猕猴桃")
    assert Answered(*asked, "奇异果。", ["奇异果"]).right and not Answered(*asked, "奇异果。").right
    rows = [
        {"id": str(i), "response": r, "accept": a, "image": [f"{i}.png"], "video": None}
        for i, (r, a) in enumerate([("油桃", ["桃子"]), ("桃子", None), ("猫", [])])
    ]
    assert [row["image"][0][0] for row in swapped(rows)] == ["2", "2", "0"]


def test_swapping_shows_something_with_another_answer():
    rows = [
        {"id": str(i), "response": r, "image": [f"{i}.png"], "video": None, "speech": f"{i}.wav"}
        for i, r in enumerate("猫猫狗猫")
    ]
    for before, after in zip(rows, swapped(rows), strict=True):
        shown = rows[int(after["image"][0][0])]
        assert shown["response"] != before["response"]
        assert (after["id"], after["response"], after["speech"]) == (before["id"], before["response"], before["speech"])


def test_rows_are_drawn_by_seed(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"id": str(i), "response": "猫"}) + "\n" for i in range(20)))
    assert len(read_questions(path)[0]) == 20
    drawn = [[row["id"] for row in read_questions(path, 5, seed)[0]] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 5
    with path.open("ab") as lines:
        lines.write(b'{"id": "\xff", "response": "x"}\n')
    rows, broken = read_questions(path)
    assert len(rows) == 20 and [str(error).split(": ")[0] for error in broken] == [f"{path}:21"]
    path.write_text('{"id": "x"}\n')
    with pytest.raises(ManifestError, match="no row has a 'response'"):
        read_questions(path)


def test_a_row_that_cannot_be_asked_does_not_disturb_the_others(small_system, tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [
        {"id": "1", "instruction": "天", "response": "地"},
        {"id": "2", "instruction": "天", "response": "地", "image": "none.png"},
        {"id": "3", "response": "地"},
        {"id": "4", "instruction": "人", "response": "地"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = list(answers(small_system, read_questions(path)[0], batch_size=3, max_tokens=3))
    assert [isinstance(a, XLLMError) for a in asked] == [False, True, True, False]
    assert str(asked[1]).startswith("2: ") and "nothing is asked" in str(asked[2])
    alone = list(answers(small_system, read_questions(path)[0][3:], max_tokens=3))
    assert asked[3] == alone[0]
