"""Inputs of recognition: files, directories, globs, JSONL manifests, pipes and `-`, in the order they were given."""

import glob
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xllm.errors import ManifestError, XLLMError
from xllm.manifest import samples
from xllm.transcribe import Source
from xllm_cli.console import note

LEFTOVERS = "__MACOSX"  # a folder of what a Mac notes about files; beside them they are `._name`


@dataclass(frozen=True)
class Failure:
    """An input that could not even be listed."""

    path: str
    message: str


def expand(inputs: Iterable[str], seeing: bool = False) -> tuple[list[Source], list[Failure]]:
    """Sources in order, and what is wrong with the other inputs. A file that is not there is found out later.

    Pictures and captions of manifests are taken if `seeing`.
    """
    sources: list[Source] = []
    failures: list[Failure] = []
    for given in inputs:
        try:
            if os.path.isdir(given):
                sources += _directory(given, failures)
            elif given.lower().endswith(".jsonl"):
                sources += _manifest(Path(given), seeing, failures)
            elif not os.path.lexists(given) and glob.has_magic(given):
                sources += _glob(given)
            else:
                sources.append(Source(given, given, from_pipe(given)))
        except XLLMError as error:
            failures.append(Failure(given, str(error)))
    return sources, failures


def from_pipe(path: str) -> BinaryIO | None:
    """What comes through a pipe, which can be read once, and by this process alone; None for a file.

    Raises MediaError.
    """
    from xllm.media import is_pipe, rereadable
    from xllm.spool import spool

    if path == "-":
        return spool(sys.stdin.buffer, "<stdin>")
    return rereadable(path) if is_pipe(path) else None


def _directory(folder: str, failures: list[Failure]) -> list[Source]:
    """Media files anywhere below, each once though links lead to it, too; `failures` gets folders that are closed."""
    from xllm.media import MEDIA_SUFFIXES

    def closed(error: OSError) -> None:
        failures.append(Failure(error.filename, f"{error.filename}: cannot be read: {error.strerror}"))

    found: dict[str, str] = {}  # by where a file really is
    links = 0
    named = [path for path in _walk(folder, closed) if Path(path).suffix.lower() in MEDIA_SUFFIXES]
    for path in sorted(named, key=os.path.islink):  # a file's own name before those of links
        if not os.path.isfile(path) and os.path.exists(path):
            continue  # a pipe that somebody keeps here
        links += os.path.realpath(path) in found
        found.setdefault(os.path.realpath(path), path)
    if links:
        note(f"{folder}: {links} symbolic links lead to files that are listed already")
    if not found:
        raise XLLMError(f"{folder}: no audio or video files in this folder")
    paths = sorted(map(Path, found.values()))
    return [Source(str(path), str(path)) for path in paths]


def _walk(folder: str, closed) -> Iterator[str]:
    """Files below, but for a Mac's leftovers; each folder once, those that links lead to after all others."""
    seen: set[str] = set()
    tops = deque([folder])
    while tops:
        for here, folders, files in os.walk(tops.popleft(), onerror=closed):
            if (real := os.path.realpath(here)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if name != LEFTOVERS)
            tops.extend(path for name in folders if os.path.islink(path := os.path.join(here, name)))
            yield from (os.path.join(here, name) for name in files if not name.startswith("._"))


def _glob(pattern: str) -> list[Source]:
    found = [Path(path) for path in glob.glob(pattern, recursive=True)]
    if not found:
        raise XLLMError(f"{pattern}: nothing matches this pattern")
    return [Source(str(path), str(path)) for path in sorted(found) if path.is_file()]


def _manifest(path: Path, seeing: bool, failures: list[Failure]) -> list[Source]:
    """Rows with `speech`; broken lines are failures, the others still count."""
    sources: list[Source] = []
    for row in samples(path):
        if isinstance(row, ManifestError):
            failures.append(Failure(str(path), str(row)))
        elif not row["speech"]:
            failures.append(Failure(row["id"], f"{path}: sample {row['id']!r} has no 'speech' to transcribe"))
        else:
            seen = {"pictures": tuple(row["image"] or ()), "caption": row["caption"]} if seeing else {}
            sources.append(Source(row["id"], row["speech"], **seen))
    if repeated := [name for name, count in Counter(source.id for source in sources).items() if count > 1]:
        note(f"{path}: {len(repeated)} ids stand in several rows, the first is {repeated[0]!r}; all rows are done")
    return sources
