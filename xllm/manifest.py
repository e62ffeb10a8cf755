"""Manifests: JSON Lines of samples, read once into Arrow and memory-mapped, so that millions of rows cost no memory.

A sample is one training or inference example; docs/data.md describes its keys. Paths are relative to the manifest.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from xllm.errors import ManifestError
from xllm.modalities import MODALITIES

FRAME = "|"  # between the frames of a film that `told` describes


def _text_keys() -> list[str]:
    """Keys whose values are strings: all media but images, of which a sample may have several."""
    return ["id", "instruction", "response", "reading", "caption", *(name for name in MODALITIES if name != "image")]


def keys() -> list[str]:
    """Every key that a sample may have."""
    return [*_text_keys(), "image", "history", "duration", "told"]


def _all_of(values, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def load_row(line: str, where: str) -> dict:
    """One line of a manifest with the keys that it has; raises ManifestError at `where` when it is no sample."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{where}: not valid JSON ({error.msg}); fix or delete the line") from None
    if not isinstance(row, dict):
        raise ManifestError(f"{where}: a sample is a JSON object, not {type(row).__name__}")
    for key in _text_keys():
        if row.get(key) is not None and not isinstance(row[key], str):
            raise ManifestError(f"{where}: {key!r} must be a string, not {row[key]!r}")
    if not isinstance(row.get("duration"), int | float | None):
        raise ManifestError(f"{where}: 'duration' must be seconds, not {row['duration']!r}")
    images = row.get("image")
    if not (images is None or isinstance(images, str) or _all_of(images, str)):
        raise ManifestError(f"{where}: 'image' must be a path or a list of paths, not {images!r}")
    history = row.get("history")
    for turn in history if isinstance(history, list) else [history] if history else ():
        if not isinstance(turn, dict) or not _all_of([turn.get(key) for key in ("instruction", "response")], str):
            raise ManifestError(f"{where}: 'history' must be a list of {{instruction, response}}, not {turn!r}")
    return row


def parse_line(line: str, where: str) -> dict:
    """One line of a manifest -> a sample with every key (None when absent); raises ManifestError at `where`."""
    row = load_row(line, where)
    sample = {key: row.get(key) for key in keys()}
    sample["id"] = sample["id"] or where
    sample["image"] = [row["image"]] if isinstance(row.get("image"), str) else row.get("image")
    return sample


def samples(path: Path) -> Iterator[dict | ManifestError]:
    """The samples of a manifest with media paths resolved, and an error naming file and line for each that is none.

    Raises ManifestError when the file cannot be read at all.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield _resolve(parse_line(line, f"{path}:{number}"), path.parent)
                    except ManifestError as error:
                        yield error
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: not a manifest (JSON Lines in UTF-8)") from None


def iterate_manifest(path: Path) -> Iterator[dict]:
    """The samples of a manifest that must be whole; raises ManifestError at its first broken line."""
    for sample in samples(path):
        if isinstance(sample, ManifestError):
            raise sample
        yield sample


def _resolve(sample: dict, folder: Path) -> dict:
    for key in MODALITIES:
        if key != "image" and sample[key]:
            sample[key] = str(folder / sample[key])
    if sample["image"]:
        sample["image"] = [str(folder / image) for image in sample["image"]]
    return sample


def read_manifest(*paths: Path):
    """Manifests as one `datasets.Dataset` with the columns of `keys`, memory-mapped from Arrow.

    The Arrow file is kept in the Hugging Face cache and made again when a manifest changes. Raises ManifestError.
    """
    import datasets
    from datasets import Dataset, Features, List, Value

    features = Features(
        {key: Value("string") for key in _text_keys()}
        | {
            "duration": Value("float32"),
            "image": List(Value("string")),
            "told": {name: Value("string") for name in MODALITIES},
            "history": List({"instruction": Value("string"), "response": Value("string")}),
        }
    )
    stamps = []
    for path in map(Path, paths):
        if not path.is_file():
            raise ManifestError(f"{path}: no such manifest; `xllm prepare-data` writes them")
        stamps.append((str(path.resolve()), path.stat().st_mtime_ns, path.stat().st_size))
    datasets.disable_progress_bars()
    try:
        return Dataset.from_generator(_rows, features=features, gen_kwargs={"stamps": [stamps]})
    except datasets.exceptions.DatasetGenerationError as error:
        cause = error.__cause__
        raise (cause if isinstance(cause, ManifestError) else ManifestError(f"{paths}: {cause}")) from None


def _rows(stamps: list) -> Iterator[dict]:
    for path, _, _ in stamps[0]:
        yield from iterate_manifest(Path(path))
