"""Inputs of recognition: files, directories, globs, JSONL manifests and `-`, in the order they were given."""

import glob
import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xllm.errors import ManifestError, XLLMError
from xllm.manifest import samples
from xllm.transcribe import Source


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
            if given == "-":
                sources.append(Source("-", "-", io.BytesIO(sys.stdin.buffer.read())))
            elif Path(given).is_dir():
                sources += _directory(Path(given))
            elif given.endswith(".jsonl"):
                found, broken = _manifest(Path(given), seeing)
                sources += found
                failures += broken
            elif not Path(given).exists() and glob.has_magic(given):
                sources += _glob(given)
            else:
                sources.append(Source(given, given))
        except XLLMError as error:
            failures.append(Failure(given, str(error)))
    return sources, failures


def _media(paths: Iterable[Path]) -> list[Source]:
    from xllm.media import MEDIA_SUFFIXES

    return [Source(str(p), str(p)) for p in sorted(paths) if p.suffix.lower() in MEDIA_SUFFIXES and p.is_file()]


def _directory(folder: Path) -> list[Source]:
    if not (found := _media(folder.rglob("*"))):
        raise XLLMError(f"{folder}: no audio or video files in this folder")
    return found


def _glob(pattern: str) -> list[Source]:
    found = [Path(path) for path in glob.glob(pattern, recursive=True)]
    if not found:
        raise XLLMError(f"{pattern}: nothing matches this pattern")
    return [Source(str(path), str(path)) for path in sorted(found) if path.is_file()]


def _manifest(path: Path, seeing: bool) -> tuple[list[Source], list[Failure]]:
    """Rows with `speech`; broken lines are failures, the others still count."""
    sources, failures = [], []
    for row in samples(path):
        if isinstance(row, ManifestError):
            failures.append(Failure(str(row).partition(": ")[0], str(row)))
        elif not row["speech"]:
            failures.append(Failure(row["id"], f"{path}: sample {row['id']!r} has no 'speech' to transcribe"))
        else:
            seen = {"pictures": tuple(row["image"] or ()), "caption": row["caption"]} if seeing else {}
            sources.append(Source(row["id"], row["speech"], **seen))
    return sources, failures
