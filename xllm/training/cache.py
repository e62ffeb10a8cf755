"""What is frozen is computed once: ragged arrays on disk, found by what they are made from.

A cache is a folder that any runs and any processes share. It holds values of functions of single items, such as the
fbank of an utterance at a given speed, or the token-level CIF vectors that stage 2 reads for thirty epochs, in parts of
some items. A part's name is a hash of all that its values depend on, so nothing in it is ever stale; several processes
that want the same values compute different parts of them. Values are float16: features after normalisation need no
more, and alphas are never stored.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from xllm.files import write_atomic

PART = 128  # items of a part; tokens of that many films through ViT-g take 740 MB
WAIT = 0.2  # seconds between two looks at what other processes compute

logger = logging.getLogger(__name__)


class Ragged:
    """Item i is a float16 array [length_i, width]; an item that failed is an error message instead."""

    def __init__(self, parts: Sequence[Path]):
        """Map `parts` into memory, where they stay readable even when their files are deleted."""
        self.parts = list(parts)
        self.failed: dict[int, str] = {}
        self._values, lengths = [], []
        for number, part in enumerate(self.parts):
            about = json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))
            lengths.append(about["lengths"])
            self.failed |= {number * PART + int(i): message for i, message in about["failed"].items()}
            self._values.append(np.load(part, mmap_mode="r", allow_pickle=False) if sum(about["lengths"]) else None)
        self._starts = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in lengths]
        self._lengths = [size for sizes in lengths for size in sizes]

    def __reduce__(self):
        return Ragged, (self.parts,)  # to a loader's process, which maps the files itself

    def __len__(self) -> int:
        return len(self._lengths)

    def length(self, i: int) -> int:
        """Rows of item i."""
        return self._lengths[i]

    def __getitem__(self, i: int) -> Tensor:
        """Item i as float32 [length_i, width]."""
        if not self._lengths[i]:
            return torch.zeros(0, 0)
        starts = self._starts[i // PART]
        rows = slice(starts[i % PART], starts[i % PART + 1])
        return torch.from_numpy(self._values[i // PART][rows].astype(np.float32))


class Cache:
    """A folder of computed values, of at most `limit` bytes: what was not used for longest goes first."""

    def __init__(self, folder: Path, limit: float = float("inf")):
        self.folder, self.limit = folder, limit

    def ragged(
        self,
        key: dict,
        sources: Sequence[str],
        compute: Callable[[list[int]], Iterator[Tensor | Exception]],
        progress: Callable[[int, int], None] | None = None,
    ) -> Ragged:
        """Values of all items, of which those that are not here are computed.

        An item is made from `key` (any JSON), its number and `sources[i]`. `compute` takes item numbers and yields one
        array [length, width] each, or the error that prevented it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        items = [list(range(start, min(start + PART, len(sources)))) for start in range(0, len(sources), PART)]
        parts = {self._part(key, numbers[0], [sources[i] for i in numbers]): numbers for numbers in items}
        missing = {part: numbers for part, numbers in parts.items() if not _there(part)}
        done = len(sources) - sum(map(len, missing.values()))
        while missing:
            before = len(missing)
            for part, numbers in list(missing.items()):
                lock = part.with_suffix(".lock")
                with suppress(Timeout), FileLock(lock, blocking=False):
                    if not _there(part):
                        _write(part, compute(numbers))
                    lock.unlink(missing_ok=True)  # who waits for it, or makes another, finds the part
                    del missing[part]
                    done += len(numbers)
                    if progress:
                        progress(done, len(sources))
            if len(missing) == before:  # others are at work on all that is left
                time.sleep(WAIT)
        found = Ragged(list(parts))
        self._make_room(set(parts))
        return found

    def _part(self, key: dict, start: int, sources: list[str]) -> Path:
        digest = hashlib.sha256(json.dumps([key, start, sources], sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.npy"

    def _make_room(self, own: set[Path]) -> None:
        """Delete parts that are not `own` until the folder is within its limit."""
        stats = {}
        for part in self.folder.glob("*.npy"):
            with suppress(FileNotFoundError):  # another process makes room, too
                stats[part] = part.stat()
        size = sum(stat.st_size for stat in stats.values())
        for part in sorted(stats.keys() - own, key=lambda part: stats[part].st_mtime):
            if size <= self.limit:
                return
            for suffix in (".json", ".npy"):
                part.with_suffix(suffix).unlink(missing_ok=True)
            size -= stats[part].st_size
        if size > self.limit:
            logger.warning("%s: %.1f GB in use, the limit is %.1f", self.folder, size / 1e9, self.limit / 1e9)


def _there(part: Path) -> bool:
    """Whether it is, and then it counts as used now."""
    with suppress(FileNotFoundError):
        os.utime(part)
        return part.with_suffix(".json").exists()
    return False


def _write(part: Path, values: Iterator[Tensor | Exception]) -> None:
    """The arrays, then what is needed to read them, which marks them whole."""
    lengths, arrays, failed = [], [], {}
    for number, value in enumerate(values):
        if isinstance(value, Exception):
            failed[number] = str(value)
            lengths.append(0)
        else:
            lengths.append(len(value))
            arrays += [value.detach().to("cpu", torch.float16).numpy()] if len(value) else []
    temporary = part.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as out:
        np.save(out, np.concatenate(arrays) if arrays else np.zeros((0, 0), np.float16), allow_pickle=False)
    os.replace(temporary, part)
    write_atomic(part.with_suffix(".json"), json.dumps({"lengths": lengths, "failed": failed}, ensure_ascii=False))
