"""What a run may go on with: the same batches.

A place in a run means something only while the run's batches are what they were: made of the same samples, of the
same lengths, by the same seed and sizes. So these are kept with every checkpoint, and what has changed is refused with
both values. What draws for a sample (`views`, `augment`, `flat_start`) belongs to them.

Safe to change: `epochs`, `lr`, `lr_scale`, `schedule`, `betas`, `weight_decay`, `clip` and `average` count from then;
`workers`, `log_every`, `save_every`, `cache_gb`, `compile`, `precision` and where files lie change no batch; `dev`
changes by what epochs are compared. The number of processes may change between two epochs, and within one as long as
processes x accumulate, the batches of a step, stays what it was.
"""

import hashlib
from typing import Any

from xllm.config import Recipe, StageConfig
from xllm.training.data import Usable

KEYS = ("batch_cost", "max_cost", "window", "views", "augment", "flat_start", "accumulate")


def made_of(recipe: Recipe, config: StageConfig, usable: Usable, processes: int) -> dict[str, Any]:
    """All that determines a run's batches, as JSON; manifests by their contents, wherever they lie."""
    rows = hashlib.sha256()
    for manifest in config.train:
        with manifest.open("rb") as file:
            rows.update(hashlib.file_digest(file, "sha256").digest())
    lengths = hashlib.sha256(b"".join(array.tobytes() for array in (usable.items, usable.costs, usable.kinds)))
    return {
        "seed": recipe.seed,
        **{key: getattr(config, key) for key in KEYS},
        "processes": processes,
        "manifests": f"{len(config.train)} ({rows.hexdigest()[:12]})",
        "samples": f"{len(usable.items)} ({lengths.hexdigest()[:12]})",
    }


def differences(was: dict[str, Any], now: dict[str, Any], within_epoch: bool) -> list[str]:
    """What has changed so that a run cannot go on: `key was this, is that`."""
    safe = {"processes"}
    if was["processes"] * was["accumulate"] == now["processes"] * now["accumulate"]:
        safe.add("accumulate")
    elif within_epoch:
        safe.clear()
    return [f"{key} was {was[key]}, is {value}" for key, value in now.items() if key not in safe and was[key] != value]
