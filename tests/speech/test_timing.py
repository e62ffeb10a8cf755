"""The LLM's characters take their times from CIF's."""

from xllm.speech.timing import align
from xllm.transcript import Token

TIMED = [Token(c, i * 1.0, i + 1.0, 0.5) for i, c in enumerate("今天天气")]


def spans(text):
    tokens = align(list(text), [0.9] * len(text), TIMED)
    assert "".join(t.text for t in tokens) == text and all(t.score == 0.9 for t in tokens)
    assert all(a.end <= b.end and a.start <= b.start for a, b in zip(tokens, tokens[1:], strict=False))
    return [(t.start, t.end) for t in tokens]


def test_same_length_is_one_to_one():
    assert spans("今天天汽") == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_missing_and_added_characters():
    assert spans("今天气") in ([(0, 1), (1, 2), (3, 4)], [(0, 1), (2, 3), (3, 4)])
    assert spans("今天天气好") == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4)]
    assert spans("今") == [(0, 1)]


def test_punctuation_and_capitals_leave_the_times_of_what_is_said():
    assert spans("今天，天气。") == [(0, 1), (1, 2), (2, 2), (2, 3), (3, 4), (4, 4)]
    timed = [Token(c, i * 1.0, i + 1.0, 0.5) for i, c in enumerate("itisok")]
    tokens = align(list("It is OK."), [0.9] * 9, timed)
    assert [t.start for t in tokens if t.text.isalpha()] == [0, 1, 2, 3, 4, 5]


def test_a_longer_replacement_divides_the_time():
    assert spans("今日日天气")[-1] == (3, 4)
    assert align(["嗯"], [0.1], []) == [Token("嗯", 0.0, 0.0, 0.1)]
    assert align([], [], TIMED) == []
