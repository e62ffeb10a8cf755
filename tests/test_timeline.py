"""Time lines: frames by their stamps, in seconds; gaps, overlaps, jitter, other clocks, damage."""

import random

import pytest

from xllm.timeline import Timeline, describe


def placed(line, *frames):
    """The start of each frame, given as (stamp, seconds); None for those left out."""
    starts = []
    for stamp, seconds in frames:
        pause = line.place(stamp, seconds)
        starts.append(None if pause is None else pytest.approx(line.position - seconds))
    return starts


def test_a_late_track_and_pauses_keep_their_time():
    line = Timeline(origin=100.0)
    assert placed(line, (105.0, 1.0), (106.0, 1.0), (110.0, 1.0), (None, 1.0)) == [5.0, 6.0, 10.0, 11.0]
    line.finish(12.0)
    assert line.lost == []


def test_jitter_changes_nothing_and_does_not_add_up():
    draw = random.Random(0)
    line = Timeline(0.0)
    assert all(line.place(0.02 * i + draw.uniform(-0.04, 0.04), 0.02) == 0 for i in range(5000))
    slow = Timeline(0.0)  # its clock runs 1% slow
    for i in range(5000):
        slow.place(0.0202 * i, 0.02)
    assert slow.position == pytest.approx(101.0, abs=0.1)


def test_what_comes_twice_is_left_out_and_counted():
    line = Timeline(0.0)
    frames = [(0.1 * i, 0.1) for i in range(10)] + [(0.62 + 0.1 * i, 0.1) for i in range(10)]
    starts = placed(line, *frames)
    assert starts.count(None) == 3 and line.position == pytest.approx(1.7)
    assert sum(end - start for start, end in line.lost) == pytest.approx(0.3) and len(line.lost) == 1


@pytest.mark.parametrize("stamp", [-5.0, 10_000.0])
def test_another_clock_goes_on(stamp):
    """Files that were joined, and stamps of nowhere: no hours of silence."""
    line = Timeline(0.0)
    assert placed(line, (0.0, 10.0), (stamp, 1.0), (stamp + 1.5, 1.0)) == [0.0, 10.0, 11.5]
    assert line.lost == []


def test_a_gap_behind_damage_is_lost():
    line = Timeline(0.0)
    line.place(0.0, 1.0)
    line.damage(0.02)
    assert line.place(1.06, 1.0) == pytest.approx(0.06)
    assert line.place(2.1, 1.0) == 0.0, "within the tolerance"
    line.hole()
    assert line.place(5.0, 1.0) > 1.9
    line.finish(None)
    assert [pytest.approx(stretch) for stretch in line.lost] == [(1.0, 1.06), (3.06, 5.0)]
    assert describe(line.lost) == "damaged: 2.00 s lost in 2 places, the first at 1.00 s"
    assert describe(line.lost[:1]) == "damaged: 0.06 s lost at 1.00 s"


def test_a_gap_where_there_are_no_pauses_is_lost():
    line = Timeline(0.0, gapless=True)
    assert placed(line, (0.0, 1.0), (2.0, 1.0), (0.0, 1.0)) == [0.0, 2.0, 3.0], "another file was joined to it"
    assert line.lost == [(1.0, 2.0)]


def test_counted_time_leaves_out_what_was_damaged():
    line = Timeline(None, counted=True)
    line.damage(9.0)  # what comes before may be anything
    assert line.place(0.0, 1.0) == 0.0
    line.damage(0.5)
    assert line.place(1.02, 1.0) == 0.5 and line.position == 2.5
    line.damage(7.0)  # tags
    line.finish(None)
    assert line.lost == [(1.0, 1.5)]


def test_an_end_that_is_not_there_is_lost():
    line = Timeline(0.0)
    line.place(0.0, 5.0)
    line.reach(5.0)
    line.finish(5.9)
    assert line.lost == [], "headers are not exact"
    line.finish(8.0)
    assert line.lost == [(5.0, 8.0)]
    longer = Timeline(0.0)
    longer.place(0.0, 5.0)
    longer.reach(8.0)  # another track
    longer.finish(8.0)
    assert longer.lost == []
