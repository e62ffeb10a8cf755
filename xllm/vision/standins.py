"""Files that stand in for images that nobody has: what an encoder with `classes` would make its last two tokens of."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xllm.errors import MediaError

SUFFIX = ".npy"


def is_stand_in(source: Any) -> bool:
    """Whether an image is given as features, by the name of its file."""
    return isinstance(source, str | Path) and str(source).endswith(SUFFIX)


def load_stand_in(path: Path | str) -> Tensor:
    """A mean feature and a mean of class weights, float32 [1, 2, D], for `VisionEncoder.complete`; or MediaError."""
    try:
        # Mapped, so that a header which promises more than the file holds allocates nothing.
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception:  # NumPy's reader of headers raises whatever it stumbles over
        raise MediaError(f"{path}: not an array of features, or damaged; write it again (numpy.save)") from None
    if features.ndim != 2 or len(features) != 2 or features.dtype.kind != "f":
        raise MediaError(f"{path}: has {features.dtype} {list(features.shape)} in place of features [2, D]")
    values = np.array(features, np.float32)[None]
    if not np.isfinite(values).all():
        raise MediaError(f"{path}: has features that are no numbers; write it again")
    return torch.from_numpy(values)
