"""The learning rate over steps."""

import pytest

from xllm.config import ScheduleConfig
from xllm.training.schedule import learning_rate


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
