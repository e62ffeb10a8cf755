"""Everything a run needs to go on bit for bit: weights, optimiser, random state and place. No pickle.

A checkpoint is a folder `step-N` of safetensors and JSON, renamed into place when whole. Weights of good epochs are
kept apart, for averaging.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xllm.checkpoint import load_tensors, save_tensors
from xllm.errors import ConfigError
from xllm.files import write_atomic

KEEP = 2  # checkpoints kept: one may be damaged by a full disk, not both


@dataclass
class Place:
    """Where a run stands. `batch` counts this epoch's batches already used (over all processes)."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    made_of: dict = field(default_factory=dict)  # what determines the batches (xllm.training.resume)
    best: list[tuple[float, int]] = field(default_factory=list)  # (dev loss, epoch) of the weights kept


def _names(optimizer: torch.optim.Optimizer) -> list[str]:
    """Parameters by number, which depends on their groups, and so on what may change: weight decay, rates of layers."""
    return [name for group in optimizer.param_groups for name in group["names"]]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimiser state as named tensors: `{parameter}.{key}`. Groups have the `names` of their parameters."""
    state, names = optimizer.state_dict()["state"], _names(optimizer)
    return {
        f"{names[number]}.{key}": torch.as_tensor(value)
        for number, values in state.items()
        for key, value in values.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; rates and decay are the recipe's business. Raises ConfigError."""
    numbers = {name: number for number, name in enumerate(_names(optimizer))}
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, _, key = name.rpartition(".")
        if parameter not in numbers:
            raise ConfigError(f"the optimiser has no {parameter!r}: other layers trained, or another version wrote it")
        state.setdefault(numbers[parameter], {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state() -> dict[str, Tensor]:
    """State of torch's generators of this process: dropout draws from them."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def restore_random_state(states: dict[str, Tensor]) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _place(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "place.json").read_text(encoding="utf-8"))


def _flaw(folder: Path) -> str | None:
    """Why a checkpoint cannot be read, or None: a file is missing, or not as long as its own header says."""
    try:
        processes = _place(folder).get("made_of", {}).get("processes", 1)
        for name in ("model", "optimizer", *(f"random-{rank}" for rank in range(processes))):
            with safe_open(folder / f"{name}.safetensors", framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None


class Checkpoints:
    """The `checkpoints` folder of a run."""

    def __init__(self, run: Path):
        self.folder = run / "checkpoints"

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("step-*[0-9]"), key=lambda path: int(path.name[5:]))

    def any(self) -> bool:
        """Whether there are checkpoints."""
        return bool(self._found())

    def newest(self) -> tuple[Path, dict[Path, str]]:
        """The newest checkpoint that is whole, and those after it: what is wrong with each.

        Raises ConfigError when none is whole.
        """
        damaged: dict[Path, str] = {}
        for folder in reversed(self._found()):
            flaw = _flaw(folder)
            if flaw is None:
                return folder, damaged
            damaged[folder] = flaw
        flaws = "; ".join(f"{folder.name}: {flaw}" for folder, flaw in damaged.items())
        raise ConfigError(f"{self.folder}: no checkpoint is whole ({flaws}); choose another output")

    @staticmethod
    def set_aside(damaged: Path) -> Path:
        """Give a damaged checkpoint another name, which is never read; returns it."""
        aside = damaged.with_suffix(".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        return damaged.rename(aside)

    def write(
        self, place: Place, weights: dict[str, Tensor], optimizer: torch.optim.Optimizer, rank: int, wait
    ) -> None:
        """Save `place` and all tensors; every process writes its own random state, the first one the rest."""
        target = self.folder / f"step-{place.step:08d}"
        temporary = target.with_suffix(".tmp")
        if rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        wait()
        save_tensors(temporary / f"random-{rank}.safetensors", random_state())
        if rank == 0:
            save_tensors(temporary / "model.safetensors", weights)
            save_tensors(temporary / "optimizer.safetensors", optimizer_tensors(optimizer))
            write_atomic(temporary / "place.json", json.dumps(asdict(place)))
        wait()
        if rank == 0:
            shutil.rmtree(target, ignore_errors=True)
            os.replace(temporary, target)
            for old in self._found()[:-KEEP]:
                shutil.rmtree(old)

    @staticmethod
    def read(folder: Path) -> tuple[Place, dict[str, Tensor]]:
        """The place and weights of a checkpoint. Raises ConfigError when another version of xllm wrote it."""
        try:
            place = Place(**_place(folder))
            place.best = [tuple(pair) for pair in place.best]
        except TypeError:
            raise ConfigError(f"{folder}: written by another version of xllm; choose another output") from None
        return place, load_tensors(folder / "model.safetensors")

    @staticmethod
    def restore(folder: Path, optimizer: torch.optim.Optimizer, rank: int) -> None:
        """Restore optimiser and random state from a checkpoint; raises ConfigError when it is of other layers."""
        try:
            load_optimizer(optimizer, load_tensors(folder / "optimizer.safetensors"))
        except ConfigError as error:
            raise ConfigError(f"{folder}: {error}; choose another output") from None
        if (own := folder / f"random-{rank}.safetensors").exists():  # else there were fewer processes
            restore_random_state(load_tensors(own))

    def keep_epoch(self, epoch: int, weights: dict[str, Tensor]) -> None:
        """Keep an epoch's weights for averaging."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_tensors(self.folder / f"epoch-{epoch}.safetensors", weights)

    def forget_epoch(self, epoch: int) -> None:
        """Drop an epoch's weights."""
        (self.folder / f"epoch-{epoch}.safetensors").unlink(missing_ok=True)

    def average(self, epochs: list[int]) -> dict[str, Tensor]:
        """Mean of the weights of kept epochs."""
        total: dict[str, Tensor] = {}
        for epoch in epochs:
            for name, value in load_tensors(self.folder / f"epoch-{epoch}.safetensors").items():
                total[name] = total[name] + value if name in total else value.clone()
        return {name: value / len(epochs) for name, value in total.items()}
