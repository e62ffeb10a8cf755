"""The cache: what comes out is what was computed, once, for one key."""

import pytest
import torch

from xllm.errors import MediaError
from xllm.training.cache import cached

VALUES = [torch.randn(n, 3) for n in (4, 0, 7)]


def compute_from(values, calls):
    def compute(items):
        calls.append(list(items))
        for item in items:
            yield values[item]

    return compute


def test_values_come_back_and_are_computed_once(tmp_path):
    calls = []
    first = cached(tmp_path / "c", {"a": 1}, 3, compute_from(VALUES, calls))
    again = cached(tmp_path / "c", {"a": 1}, 3, compute_from(VALUES, calls))
    assert calls == [[0, 1, 2]]
    for cache in (first, again):
        assert [cache.length(i) for i in range(3)] == [4, 0, 7] and len(cache) == 3
        for i in (0, 2):
            torch.testing.assert_close(cache[i], VALUES[i], atol=2e-3, rtol=1e-3)


def test_another_key_is_computed_again(tmp_path):
    calls = []
    cached(tmp_path / "c", {"a": 1}, 3, compute_from(VALUES, calls))
    cached(tmp_path / "c", {"a": 2}, 3, compute_from(VALUES, calls))
    assert len(calls) == 2


def test_errors_are_kept_by_item(tmp_path):
    cache = cached(tmp_path / "c", {}, 2, compute_from([MediaError("a.wav: damaged"), VALUES[0]], []))
    assert cache.failed == {0: "a.wav: damaged"}
    assert cache.length(0) == 0 and cache.length(1) == 4


def test_an_interrupted_computation_leaves_no_cache(tmp_path):
    def broken(items):
        yield VALUES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "c", {}, 3, broken)
    assert not (tmp_path / "c").exists()
