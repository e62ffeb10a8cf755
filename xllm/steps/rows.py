"""Rows on their way from one manifest to the next: kept, dropped for a reason, or failed for one; all are counted."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from xllm.errors import ManifestError
from xllm.manifest import lines_of, load_row
from xllm.modalities import MODALITIES


@dataclass(frozen=True)
class Dropped:
    """An input that becomes no row: left out by a rule, or `failed`, because something in it is broken.

    `reason` is one of a few that are counted; `detail` says what is particular to this one.
    """

    id: str
    reason: str
    detail: str = ""
    failed: bool = False


@dataclass
class Report:
    """What became of every input: `inputs` is always the sum of kept, dropped and failed.

    `rows` is what was written: another number than `kept` where one input becomes several rows.
    """

    inputs: int = 0
    kept: int = 0
    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def count(self, dropped: Dropped) -> None:
        """Count an input that is not kept."""
        counts = self.failed if dropped.failed else self.dropped
        counts[dropped.reason] = counts.get(dropped.reason, 0) + 1

    def check(self) -> None:
        """Raises AssertionError when the counts do not add up."""
        assert self.inputs == self.kept + sum(self.dropped.values()) + sum(self.failed.values()), self


def read_rows(path: Path) -> Iterator[dict | Dropped]:
    """The rows of a manifest with all their keys, those without a meaning here, too; media paths are resolved.

    Raises ManifestError when the file cannot be read at all.
    """
    path = Path(path)
    folder = str(path.parent)
    for number, line in lines_of(path):
        where = f"{path.name}:{number}"
        try:
            row = load_row(line, where)
        except ManifestError as error:
            yield Dropped(where, "not a sample", str(error), failed=True)
            continue
        row.setdefault("id", where)
        yield map_media(row, lambda name: os.path.join(folder, name))


def map_media(row: dict, change) -> dict:
    """The row with `change` applied to each of its media paths."""
    for key in MODALITIES:
        value = row.get(key)
        if isinstance(value, str):
            row[key] = change(value)
        elif value:
            row[key] = [change(each) for each in value]
    return row


def media_of(row: dict) -> Iterator[tuple[str, str]]:
    """Modality and path of each of a row's media."""
    for key in MODALITIES:
        value = row.get(key) or ()
        yield from ((key, path) for path in ([value] if isinstance(value, str) else value))


def relative_to(folder: Path):
    """A function that makes paths relative to `folder`."""
    start = os.path.abspath(folder)
    base = lru_cache(4096)(lambda name: os.path.relpath(name, start))

    def relative(path: str) -> str:
        head, tail = os.path.split(path)
        head = base(head or ".")
        return tail if head == "." else f"{head}/{tail}"

    return relative


def count_lines(path: Path) -> int:
    """Lines of a manifest, roughly its rows. Raises ManifestError."""
    try:
        with Path(path).open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest: {error.strerror}") from None
