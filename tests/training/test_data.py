"""Batches: deterministic, within the budget, of one kind, nearly without padding, and nothing lost."""

import numpy as np
import pytest

from xllm.training.data import make_batches, padding_waste

COSTS = np.random.default_rng(0).integers(50, 900, 2000)
KINDS = np.random.default_rng(1).integers(0, 2, 2000)


def test_every_item_once_within_budget_and_of_one_kind():
    batches = make_batches(COSTS, KINDS, 8000, 50, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(2000))
    for batch in batches:
        assert len(batch) * COSTS[batch].max() <= 8000
        assert len(set(KINDS[batch])) == 1


def test_an_item_above_the_budget_stands_alone():
    batches = make_batches(np.array([10, 500, 20]), np.zeros(3, int), 100, 10, seed=0, epoch=0)
    assert [1] in [batch.tolist() for batch in batches]


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return [batch.tolist() for batch in make_batches(COSTS, KINDS, 8000, 50, seed, epoch)]

    assert order(1, 4) == order(1, 4)
    assert order(1, 4) != order(1, 5)
    assert order(1, 4) != order(2, 4)


def test_sorting_in_windows_leaves_little_padding():
    same = np.zeros(2000, int)
    assert padding_waste(COSTS, make_batches(COSTS, same, 8000, 50, 0, 0)) < 1.1
    assert padding_waste(COSTS, make_batches(COSTS, same, 8000, 1, 0, 0)) > 1.2


def test_no_items_no_batches():
    assert make_batches(np.array([], int), np.array([], int), 100, 10, 0, 0) == []
    assert padding_waste(np.array([], int), []) == pytest.approx(0.0)
