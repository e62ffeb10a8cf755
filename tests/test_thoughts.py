"""Thoughts in front of a reply are no part of it, and a reply in which nobody can tell them apart is none."""

import pytest

from xllm.thoughts import after_thoughts, without_thoughts


@pytest.mark.parametrize(
    ("text", "without", "after"),
    [
        ("8 9", "8 9", "8 9"),
        ("<think>Hm.\n</think>\n8 9", "\n8 9", "\n8 9"),
        ("\n<THINKING>Hm.</Thinking>8 9", "8 9", "8 9"),
        ("<think>Hm. 8 9", "", ""),
        ("<think>It says </think> 10 1.</think>8 9", "", "8 9"),
        ("Hm.</think>8 9", "Hm.</think>8 9", "8 9"),
        ("It says <think>.", "It says <think>.", "It says <think>."),
    ],
)
def test_thoughts_end_where_they_say(text, without, after):
    assert without_thoughts(text) == without
    assert after_thoughts(text) == after
