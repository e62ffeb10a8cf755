"""One place that turns the names of devices into devices, or into one clear line."""

import os
from collections.abc import Iterable

import torch

from xllm.errors import ConfigError


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device called `name`: `auto` (first CUDA, then MPS, then CPU), `cpu`, `cuda[:N]` or `mps`.

    Raises ConfigError when the name is unknown or the device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ConfigError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} asked for, but no CUDA GPU is usable here: use --device cpu")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} asked for, but the GPUs here are 0..{torch.cuda.device_count() - 1}")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' asked for, but Metal is not usable here: use --device cpu")
    return torch.device(name if index or kind != "cuda" else "cuda:0")


def resolve_gpus(names: str) -> list[int]:
    """Return the GPUs called `names`: indices as in `cuda:N`, such as `0,1`, or `all`.

    Raises ConfigError when a name is no index, comes twice, or is of no GPU on this machine.
    """
    parts = [part.strip() for part in names.split(",")]
    if names != "all" and not all(part.isdecimal() and part.isascii() for part in parts):
        raise ConfigError(f"--gpus {names!r}: give numbers from 0, e.g. 0,1, or all")
    have = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not have:
        raise ConfigError(f"--gpus {names!r}: no CUDA GPU is usable here; leave it out to use another device")
    chosen = list(range(have)) if names == "all" else list(map(int, parts))
    if missing := [index for index in chosen if index >= have]:
        raise ConfigError(f"--gpus {names!r}: there is no GPU {missing[0]}; here are 0..{have - 1} (all of them: all)")
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"--gpus {names!r}: names a GPU twice")
    return chosen


def visible_gpus(indices: Iterable[int]) -> str:
    """What CUDA_VISIBLE_DEVICES must say for a new process to see these GPUs, of those that this process sees."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = seen.split(",") if seen else []
    return ",".join(names[index].strip() if names else str(index) for index in indices)
