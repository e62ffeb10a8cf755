"""What was measured becomes samples: in order, failures unscored, texts and pictures as far as they are known."""

import pytest

from xllm.errors import MediaError
from xllm.evaluation.answers import Answered
from xllm.evaluation.judge import Case, Review, score
from xllm.evaluation.recognition import Run, Utterance
from xllm.evaluation.recognition import score as compare
from xllm.evaluation.report import Medium
from xllm.evaluation.samples import answered_samples, heard_samples, judged_samples


def test_what_was_heard_and_what_failed_stand_in_the_order_of_the_manifest():
    utterances = [Utterance(i, f"{i}.wav", "天地，人。", (f"{i}.png",), "天") for i in "abc"]
    scores = [compare(i, f"{i}.wav", "天地，人。", "天地你", 0.5, 1.25) for i in "ac"]
    a, b, c = heard_samples("cif S+V", utterances, Run(scores, {1: "b.wav: no such file"}, 0.1))
    assert [s.id for s in (a, b, c)] == ["a", "b", "c"] and {s.group for s in (a, b, c)} == {"cif S+V"}
    assert a.media == [Medium("image", "a.png"), Medium("speech", "a.wav")]
    assert a.texts == {"caption": "天", "reference": "天地人", "hypothesis": "天地你"}
    assert a.numbers == {"CER %": 33.33, "errors": 1, "confidence": 0.5, "seconds": 1.25} and a.wrong
    assert b.numbers == {"CER %": None} and b.texts["error"] == "b.wav: no such file" and b.wrong is None


def test_answers_with_what_was_shown():
    row = {"id": "q", "instruction": "这是什么？", "response": "猫", "image": ["a.png"], "video": None, "speech": None}
    rows = [row, row | {"image": None, "video": "f.mp4", "instruction": None, "speech": "q.wav"}, row]
    results = [Answered("q", "这是什么？", "猫", "猫。"), Answered("q", "", "猫", "狗"), MediaError("q: gone")]
    right, wrong, failed = answered_samples("right", rows, results)
    assert right.texts == {"question": "这是什么？", "right answer": "猫", "answer": "猫。"} and right.wrong is False
    assert right.media == [Medium("image", "a.png")] and right.numbers == {"exact": 1}
    assert wrong.media == [Medium("video", "f.mp4"), Medium("speech", "q.wav")] and wrong.wrong
    assert "question" not in wrong.texts
    assert failed.numbers == {"exact": None} and failed.texts["error"] == "q: gone" and failed.wrong is None


def test_reviews_with_and_without_what_was_judged():
    reviews = [
        Review("1", "conv", "8 10\nGood."),
        Review("2", "conv", "Hm."),
        Review("1", "conv", "9 9", None, True, 1),
    ]
    cases = {"1": Case("conv", "What?", "a cat", "ours", "theirs")}
    scored, unscored, swapped = judged_samples(reviews, score(reviews), cases, {"1": "1.jpg"})
    assert list(scored.texts.values()) == ["What?", "ours", "theirs", "8 10\nGood.", "a cat"]
    assert scored.numbers == {"our score": 8.0, "reference score": 10.0, "relative %": 80.0}
    assert scored.media == [Medium("image", "1.jpg")] and scored.group == "conv"
    assert unscored.texts == {"review": "Hm."} and set(unscored.numbers.values()) == {None} and not unscored.media
    assert swapped.id == "1" and "review, reference first, sample 1" in swapped.texts
    with pytest.raises(ValueError):
        list(judged_samples(reviews, []))
