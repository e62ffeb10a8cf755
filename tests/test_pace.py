"""How far ahead is looked: all the way where width costs nothing, not at all where drafts do not pay."""

import pytest

from xllm.pace import ENOUGH, Pace


def paced(fixed, per_row, per_token, stands):
    """After many passes of such a price, in milliseconds, with drafts whose tokens stand so often."""
    pace = Pace()
    for number in range(40):
        rows, width = 1 + number % 8, number * 7 % 20
        pace.time(rows, width, 1e-3 * (fixed + rows * (per_row + per_token * width)))
        pace.count(round(10 * stands), 10)
    return pace


def test_all_of_a_draft_until_something_is_known():
    pace = Pace()
    for _ in range(ENOUGH - 1):
        assert pace.width(8, 17) == 17
        pace.time(8, 3, 1.0)


@pytest.mark.parametrize("stands", [0.5, 0.9])
def test_a_device_on_which_width_is_free_looks_at_everything(stands):
    assert paced(20, 0, 0, stands).width(8, 30) >= 29
    assert paced(20, 1, 0.01, 0.95).width(8, 30) > 20


def test_poor_drafts_are_switched_off_in_large_batches_and_not_for_single_rows():
    pace = paced(100, 8, 5, 0.1)
    assert pace.width(8, 20) == 0 and pace.width(32, 20) == 0
    good = paced(100, 8, 5, 0.9)
    assert 20 >= good.width(1, 20) >= good.width(8, 20) >= good.width(32, 20) > 1


def test_the_width_is_the_one_of_most_tokens_a_second():
    pace = paced(100, 8, 5, 0.8)
    best = max(range(21), key=lambda k: (1 - 0.8 ** (k + 1)) / (100 + 4 * (8 + 5 * k)))
    assert pace.width(4, 20) == best


def test_what_was_long_ago_does_not_count():
    pace = paced(100, 8, 5, 0.9)
    for _ in range(100):
        pace.count(0, 10)
    assert pace.width(8, 20) == 0
    assert pace.width(8, 0) == 0
