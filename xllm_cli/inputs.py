"""Inputs of recognition: files, directories, globs, JSONL manifests and `-`, in the order they were given."""

import glob
import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from xllm.errors import ManifestError, XLLMError
from xllm.manifest import parse_line
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
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: text may hold U+2028
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: not a manifest (JSON Lines in UTF-8)") from None
    sources, failures = [], []
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            row = parse_line(line, where)
            if not row["speech"]:
                raise ManifestError(f"{where}: no 'speech' to transcribe")
            source = Source(row["id"], str(path.parent / row["speech"]))
            if seeing:
                pictures = tuple(str(path.parent / picture) for picture in row["image"] or ())
                source = replace(source, pictures=pictures, caption=row["caption"])
            sources.append(source)
        except ManifestError as error:
            failures.append(Failure(where, str(error)))
    return sources, failures
