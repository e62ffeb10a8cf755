"""One place that turns a device's name into a device, or into one clear line."""

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
