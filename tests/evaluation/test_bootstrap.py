"""The bootstrap: an interval that is known, the same draws for all, and figures as they were."""

import numpy as np
import pytest

from xllm.evaluation.bootstrap import RESAMPLES, interval


def test_the_interval_of_a_mean_is_the_known_one():
    values = np.random.default_rng(1).normal(10, 2, 400)
    low, high = interval(lambda draw: values[draw].mean(), len(values), 3)
    around = 1.96 * values.std() / 20  # of a mean of 400
    assert low == pytest.approx(values.mean() - around, abs=0.03)
    assert high == pytest.approx(values.mean() + around, abs=0.03)


def test_every_figure_sees_the_same_draws():
    seen = [[], []]
    for draws in seen:
        interval(lambda draw, draws=draws: float(draws.append(draw.tolist()) or 0), 5, 1)
    assert seen[0] == seen[1] and len(seen[0]) == RESAMPLES and len(seen[0][0]) == 5
    assert len({tuple(draw) for draw in seen[0]}) > 100


def test_one_sample_is_certain_of_itself_and_none_is_an_error():
    assert interval(lambda draw: 100 * len(draw) / 3, 1, 2) == (33.33, 33.33)
    with pytest.raises(ValueError, match="no samples"):
        interval(lambda draw: 0.0, 0, 1)
