"""Names of devices: the same meaning for every command, and one line for what is not there."""

import pytest
import torch

from xllm.device import resolve_gpus, visible_gpus
from xllm.errors import ConfigError


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus_are_indices_or_all(three):
    assert resolve_gpus("2") == [2], "one GPU, not two of them"
    assert resolve_gpus("2, 0") == [2, 0]
    assert resolve_gpus("all") == [0, 1, 2]


@pytest.mark.parametrize(
    "names, message",
    [
        ("3", r"no GPU 3; here are 0\.\.2 \(all of them: all\)"),
        ("0,8", "no GPU 8"),
        ("1,1", "twice"),
        *((bad, "numbers from 0") for bad in ("", "a", "-1", "0,", "1.5", "cuda:0", "²")),
    ],
)
def test_what_is_no_gpu_is_refused(three, names, message):
    with pytest.raises(ConfigError, match=message):
        resolve_gpus(names)


@pytest.mark.parametrize("names", ["0", "all"])
def test_without_a_gpu_there_is_none(monkeypatch, names):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA GPU is usable here"):
        resolve_gpus(names)


def test_indices_count_the_gpus_that_are_visible(three, monkeypatch):
    assert visible_gpus([2, 0]) == "2,0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-1f,7")
    assert visible_gpus([2, 0]) == "7,5" and visible_gpus([1]) == "GPU-1f"
