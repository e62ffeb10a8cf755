"""What is frozen is computed once: ragged arrays on disk, memory-mapped.

One cache holds the value of one function over the items of a stage: fbank of each utterance at a given speed, or the
token-level CIF vectors that stage 2 reads for thirty epochs. Values are float16: features after normalisation need
no more, and alphas are never stored.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_BATCH = 64  # items computed between two progress reports


class RaggedCache:
    """Item i is a float16 array [length_i, width]; an item that failed is an error message instead."""

    def __init__(self, folder: Path):
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.failed: dict[int, str] = {int(i): message for i, message in meta["failed"].items()}
        self.offsets = np.load(folder / "offsets.npy", allow_pickle=False)
        shape = (int(self.offsets[-1]), meta["width"])
        self.values = np.memmap(folder / "values.f16", dtype=np.float16, mode="r", shape=shape) if shape[0] else None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def length(self, i: int) -> int:
        """Rows of item i."""
        return int(self.offsets[i + 1] - self.offsets[i])

    def __getitem__(self, i: int) -> Tensor:
        """Item i as float32 [length_i, width]."""
        start, stop = self.offsets[i], self.offsets[i + 1]
        if start == stop:
            return torch.zeros(0, 0)
        return torch.from_numpy(np.array(self.values[start:stop])).float()


def cached(
    folder: Path,
    key: dict,
    count: int,
    compute: Callable[[list[int]], Iterator[Tensor | Exception]],
    progress: Callable[[int, int], None] | None = None,
) -> RaggedCache:
    """Open the cache in `folder` if it was made for `key` (any JSON), else compute all `count` items into it.

    `compute` takes item numbers and yields one array [length, width] each, or the error that prevented it. The
    folder appears whole or not at all.
    """
    key = json.loads(json.dumps({**key, "count": count}))
    meta = folder / "meta.json"
    if meta.is_file() and json.loads(meta.read_text(encoding="utf-8"))["key"] == key:
        return RaggedCache(folder)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    lengths, width, failed = [], 0, {}
    with (temporary / "values.f16").open("wb") as out:
        for start in range(0, count, _BATCH):
            items = list(range(start, min(start + _BATCH, count)))
            for i, value in zip(items, compute(items), strict=True):
                if isinstance(value, Exception):
                    failed[i] = str(value)
                    lengths.append(0)
                    continue
                lengths.append(value.shape[0])
                width = max(width, value.shape[1])
                out.write(value.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
            if progress:
                progress(items[-1] + 1, count)
    np.save(temporary / "offsets.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    (temporary / "meta.json").write_text(
        json.dumps({"key": key, "width": width, "failed": failed}, ensure_ascii=False), encoding="utf-8"
    )
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    return RaggedCache(folder)
