"""The cache: what comes out is what was computed, once, by whoever comes first, within a size."""

import multiprocessing
import os
import pickle
import time

import pytest
import torch
from small_steps import fill_cache

from xllm.errors import MediaError
from xllm.training import cache as caching
from xllm.training.cache import Cache

VALUES = [torch.randn(n, 3) for n in (4, 0, 7, 2, 5)]
NAMES = list("abcde")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(caching, "PART", 2)


def compute_from(values, calls):
    def compute(items):
        calls.append(list(items))
        for item in items:
            yield values[item]

    return compute


def test_values_come_back_and_are_computed_once(tmp_path):
    calls, told = [], []
    first = Cache(tmp_path / "c").ragged({"a": 1}, NAMES, compute_from(VALUES, calls), lambda *at: told.append(at))
    again = Cache(tmp_path / "c").ragged({"a": 1}, NAMES, compute_from(VALUES, calls))
    assert calls == [[0, 1], [2, 3], [4]] and told == [(2, 5), (4, 5), (5, 5)]
    for found in (first, again, pickle.loads(pickle.dumps(first))):
        assert [found.length(i) for i in range(5)] == [4, 0, 7, 2, 5] and len(found) == 5
        for i in (0, 2, 3, 4):
            torch.testing.assert_close(found[i], VALUES[i], atol=2e-3, rtol=1e-3)
        assert found[1].numel() == 0


def test_only_what_differs_is_computed_again(tmp_path):
    calls = []
    Cache(tmp_path).ragged({"a": 1}, NAMES[:4], compute_from(VALUES, calls))
    Cache(tmp_path).ragged({"a": 1}, NAMES, compute_from(VALUES, calls))
    assert calls[2:] == [[4]], "a manifest that grew"
    Cache(tmp_path).ragged({"a": 1}, ["a", "b", "c", "x", "e"], compute_from(VALUES, calls))
    assert calls[3:] == [[2, 3]], "a file that changed"
    Cache(tmp_path).ragged({"a": 2}, NAMES, compute_from(VALUES, calls))
    assert len(calls) == 7, "another key"
    Cache(tmp_path).ragged({"a": 1}, NAMES, compute_from(VALUES, calls))
    assert len(calls) == 7, "and the first is still there"


def test_errors_are_kept_by_item(tmp_path):
    broken = [VALUES[0], VALUES[1], MediaError("c.wav: damaged")]
    found = Cache(tmp_path).ragged({}, NAMES[:3], compute_from(broken, []))
    assert found.failed == {2: "c.wav: damaged"}
    assert found.length(2) == 0 and found.length(0) == 4


def test_an_interrupted_computation_goes_on_after_its_whole_parts(tmp_path):
    def broken(items):
        for item in items:
            if item == 3:
                raise KeyboardInterrupt
            yield VALUES[item]

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).ragged({}, NAMES, broken)
    calls = []
    Cache(tmp_path).ragged({}, NAMES, compute_from(VALUES, calls))
    assert calls == [[2, 3], [4]]


def test_several_processes_share_the_work(tmp_path):
    """Each part is computed by one of them, and all see all parts."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        sums = pool.map(fill_cache, [tmp_path] * 3, chunksize=1)
    assert sums == [[float(i) for i in range(300)]] * 3
    lines = (tmp_path / "computed").read_text().split()
    assert sorted(map(int, lines)) == list(range(300)), "none twice"
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy", ".json", ""}, "nothing else is left"


def test_the_longest_unused_go_when_room_is_short(tmp_path, caplog):
    def fill(key, limit=float("inf")):
        return Cache(tmp_path, limit).ragged({"key": key}, ["x"], compute_from([torch.full((100, 10), key)], calls))

    calls = []
    fill(1.0), fill(2.0)
    for age, path in enumerate(sorted(tmp_path.glob("*.npy"), key=os.path.getmtime)):
        os.utime(path, (time.time() - 100 + age,) * 2)
    held = fill(1.0)  # used again: now 2 is the older one
    fill(3.0, limit=5000)
    assert len(list(tmp_path.glob("*.npy"))) == 2 and len(calls) == 3
    fill(1.0)
    assert len(calls) == 3, "still there"
    fill(4.0, limit=100)
    assert len(list(tmp_path.glob("*.npy"))) == 1 and "the limit is" in caplog.text, "what is in use stays"
    assert held[0].eq(1.0).all(), "and what a run has opened stays readable"
