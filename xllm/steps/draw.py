"""Some rows of a manifest by seed: those whose ids have the smallest hashes, however long the manifest is."""

import hashlib
import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from xllm.steps.rows import Dropped, media_of, read_rows
from xllm.steps.run import Row

Fit = Callable[[Row], str | None]  # why a row must not be drawn


def draw(manifest: Path, count: int, seed: int, unfit: Fit = lambda row: None) -> Iterator[Row | Dropped]:
    """`count` rows of a manifest that are fit, fewer where there are no more, in its order; the others as dropped.

    Reads the manifest twice and remembers `count` hashes. Raises ManifestError.
    """
    fit = (row["id"] for row in read_rows(manifest) if not isinstance(row, Dropped) and unfit(row) is None)
    last, left = max(heapq.nsmallest(count, (order(seed, name) for name in fit)), default=""), count
    for row in read_rows(manifest):
        if isinstance(row, Dropped):
            yield row
        elif reason := unfit(row):
            yield Dropped(row["id"], reason)
        elif left and order(seed, row["id"]) <= last:
            left -= 1  # equal ids have equal places
            yield row
        else:
            yield Dropped(row["id"], "not drawn")


def order(seed: int, name: str) -> str:
    """Where a name stands in the shuffle of this seed."""
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogatepass")).hexdigest()


def shows_none_of(manifests: Sequence[Path]) -> Fit:
    """A reason not to draw rows whose pictures stand in one of the manifests. Raises ManifestError."""
    taken = {
        image
        for manifest in manifests
        for row in read_rows(manifest)
        if not isinstance(row, Dropped)
        for image in _images(row)
    }
    return lambda row: "in another set" if taken and taken.intersection(_images(row)) else None


def _images(row: Row) -> list[str]:
    try:
        return [os.path.realpath(path) for key, path in media_of(row) if key == "image"]
    except ValueError:  # no file can have such a name
        return []
