"""Error rates counted by hand, their intervals, and the comparison of two runs."""

import pytest

from xllm.evaluation.recognition import aligned, difference, score, summarize, worst


@pytest.mark.parametrize(
    "reference, hypothesis, sdi",
    [
        ("你好，世界！", "你好世界", (0, 0, 0)),
        ("ＡＢＣ １２", "abc12", (0, 0, 0)),
        ("你好", "我好", (1, 0, 0)),
        ("你好吗", "你吗", (0, 1, 0)),
        ("你好", "你们好", (0, 0, 1)),
        ("三", "3", (1, 0, 0)),
        ("", "嗯", (0, 0, 1)),
        ("。", "", (0, 0, 0)),
        ("你好", "", (0, 2, 0)),
    ],
)
def test_errors_by_hand(reference, hypothesis, sdi):
    s = score("x", "x.wav", reference, hypothesis)
    assert (s.substitutions, s.deletions, s.insertions) == sdi


def samples(errors):
    return [score(str(i), "", "一二三四五", "一二三四五"[: 5 - n]) for i, n in enumerate(errors)]


def test_pooled_rate_and_interval():
    summary = summarize(samples([0, 1, 0, 2, 0, 0, 1, 0]))
    assert summary.cer == 10.0 and summary.deletions == 4 and summary.characters == 40
    assert summary.low < summary.cer < summary.high
    assert summary.wrong_utterances == 37.5
    assert summarize(samples([0, 1, 0, 2, 0, 0, 1, 0])) == summary, "the same samples, the same interval"
    assert summarize(samples([1] * 9)).low == summarize(samples([1] * 9)).high == 20.0
    with pytest.raises(ValueError, match="no samples"):
        summarize([])


def test_difference_is_paired_by_id():
    a, b = samples([1, 0, 2, 0]), samples([0, 0, 1, 0])
    points, low, high = difference(a, list(reversed(b)))
    assert points == -10.0 and low <= points <= high <= 0
    with pytest.raises(ValueError, match="share no sample"):
        difference(a, [score("other", "", "一", "一")])


def test_worst_come_first_and_right_ones_not_at_all():
    assert [s.id for s in worst(samples([0, 1, 3, 2]), 2)] == ["2", "3"]


def test_alignment_marks_errors():
    assert aligned(score("x", "", "今天天气好", "今天气很好")) == ("今天[天气]好", "今天[气很]好")
    assert aligned(score("x", "", "你好吗", "你吗")) == ("你[好]吗", "你[＿]吗")
    assert aligned(score("x", "", "你", "")) == ("你", "＿")
