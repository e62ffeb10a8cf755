"""The learning rate over steps."""

import pytest

from xllm.config import ScheduleConfig
from xllm.training.schedule import learning_rate, misfit


@pytest.mark.parametrize("kind", ["tri-stage", "cosine"])
def test_warms_up_holds_decays_and_stays(kind):
    config = ScheduleConfig(kind=kind, warmup=10, hold=5, decay=20, start_lr=1e-6, min_lr=1e-7)
    rates = [learning_rate(step, 1e-3, config) for step in range(60)]
    assert rates[:10] == sorted(rates[:10]) and rates[0] > 1e-6
    assert rates[9:15] == pytest.approx([1e-3] * 6)
    assert rates[15:35] == sorted(rates[15:35], reverse=True)
    assert rates[35:] == pytest.approx([1e-7] * 25)


def test_tri_stage_halves_evenly_and_cosine_is_half_way_in_the_middle():
    tri = ScheduleConfig(kind="tri-stage", decay=10, min_lr=1e-5)
    assert learning_rate(4, 1e-3, tri) == pytest.approx(1e-4)
    cosine = ScheduleConfig(kind="cosine", decay=10, min_lr=0.0)
    assert learning_rate(4, 1e-3, cosine) == pytest.approx(5e-4)


def test_without_a_schedule_the_rate_is_constant():
    assert {learning_rate(step, 1e-3, ScheduleConfig()) for step in range(50)} == {1e-3}
    warmed = [learning_rate(step, 1e-3, ScheduleConfig(warmup=4, start_lr=0)) for step in range(8)]
    assert warmed == pytest.approx([2.5e-4, 5e-4, 7.5e-4, *[1e-3] * 5])


@pytest.mark.parametrize("steps, fits", [(79, False), (80, True), (100, True), (125, True), (126, False)])
def test_a_schedule_that_ends_with_the_run_fits(steps, fits):
    said = misfit(ScheduleConfig(kind="cosine", warmup=10, hold=40, decay=50), steps)
    assert (said is None) == fits
    if said:
        assert f"at step 100, the run at step {steps}: schedule.decay={steps - 50} ends" in said


def test_a_warm_up_must_end_within_the_run():
    assert misfit(ScheduleConfig(), 1) is None and misfit(ScheduleConfig(warmup=10), 10**6) is None
    assert "shorten the warm-up" in misfit(ScheduleConfig(warmup=10), 9)
    assert "shorten the warm-up" in misfit(ScheduleConfig(kind="cosine", warmup=10, hold=40, decay=1), 20)
