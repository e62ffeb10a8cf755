"""Manifests: JSON Lines of samples, read once into Arrow and memory-mapped, so that millions of rows cost no memory.

A sample is one training or inference example; docs/data.md describes its keys. Paths are relative to the manifest.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short

from xllm.errors import ManifestError
from xllm.modalities import MODALITIES

LONGEST = 1e9  # seconds that a duration may say: what is longer is no duration
_HALF = re.compile("[\ud800-\udfff]")  # of a character: "\\ud800" is JSON, but no text
FRAME = "|"  # between the frames of a film that `told` describes


def _text_keys() -> list[str]:
    """Keys whose values are strings: all media but images, of which a sample may have several."""
    return ["id", "instruction", "response", "reading", "caption", *(name for name in MODALITIES if name != "image")]


def keys() -> list[str]:
    """Every key that a sample may have."""
    return [*_text_keys(), "image", "history", "duration", "told", "accept"]


def _all_of(values, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _parsed(line: bytes, where: str):
    """The value of a line of JSON; raises ManifestError."""
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise ManifestError(f"{where}: not UTF-8; save the manifest as UTF-8") from None
    except RecursionError:
        raise ManifestError(f"{where}: not valid JSON (too deeply nested); fix or delete the line") from None
    except ValueError as error:  # also of numbers with more digits than Python takes
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error).partition(";")[0]
        raise ManifestError(f"{where}: not valid JSON ({reason}); fix or delete the line") from None


def _is_text(value) -> bool:
    """Whether it is a string that UTF-8 can hold."""
    return isinstance(value, str) and not _HALF.search(value)


def load_row(line: bytes, where: str) -> dict:
    """One line of a manifest with the keys that it has; raises ManifestError at `where` when it is no sample."""
    row = _parsed(line, where)
    if not isinstance(row, dict):
        raise ManifestError(f"{where}: a sample is a JSON object, not {type(row).__name__}")
    for key in _text_keys():
        value = row.get(key)
        # a path may be of another encoding, whose bytes Python and JSON write as such halves
        if value is not None and not (isinstance(value, str) if key in MODALITIES else _is_text(value)):
            raise ManifestError(f"{where}: {key!r} must be a string, not {short(value)}")
    seconds = row.get("duration")
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (number and 0 <= seconds <= LONGEST):
        raise ManifestError(f"{where}: 'duration' must be seconds, not {short(seconds)}")
    accept = row.get("accept")
    if accept is not None and not (isinstance(accept, list) and all(map(_is_text, accept))):
        raise ManifestError(f"{where}: 'accept' must be a list of strings, not {short(accept)}")
    images = row.get("image")
    if not (images is None or isinstance(images, str) or _all_of(images, str)):
        raise ManifestError(f"{where}: 'image' must be a path or a list of paths, not {short(images)}")
    history = row.get("history")
    for turn in history if isinstance(history, list) else [history] if history else ():
        if not isinstance(turn, dict) or not all(map(_is_text, (turn.get("instruction"), turn.get("response")))):
            raise ManifestError(f"{where}: 'history' must be a list of {{instruction, response}}, not {short(turn)}")
    return row


def parse_line(line: bytes, where: str) -> dict:
    """One line of a manifest -> a sample with every key (None when absent); raises ManifestError at `where`."""
    row = load_row(line, where)
    sample = {key: row.get(key) for key in keys()}
    sample["id"] = sample["id"] or where
    sample["image"] = [row["image"]] if isinstance(row.get("image"), str) else row.get("image")
    return sample


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line of a manifest that is not blank; a byte order mark is left out.

    The one way in which manifests are read. Raises ManifestError when the file cannot be read at all.
    """
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                        raise ManifestError(f"{path}: not a manifest: UTF-16; save it as JSON Lines in UTF-8")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest: {error.strerror}; give a .jsonl file") from None


def located(path: Path) -> Iterator[tuple[str, dict | ManifestError]]:
    """`file:line` of each line of a manifest, and its sample with media paths resolved, or why it is none.

    Raises ManifestError when the file cannot be read at all.
    """
    path = Path(path)
    for number, line in lines_of(path):
        where = f"{path}:{number}"
        try:
            yield where, _resolve(parse_line(line, where), path.parent)
        except ManifestError as error:
            yield where, error


def samples(path: Path) -> Iterator[dict | ManifestError]:
    """The samples of a manifest with media paths resolved, and an error naming file and line for each that is none.

    Raises ManifestError when the file cannot be read at all.
    """
    return (sample for _, sample in located(path))


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
            "accept": List(Value("string")),
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
        for sample in iterate_manifest(Path(path)):
            for media in (*(sample[name] for name in MODALITIES if name != "image"), *(sample["image"] or ())):
                if media and not _is_text(media):
                    raise ManifestError(f"{path}: sample {sample['id']!r}: {media!r} is not UTF-8; rename the file")
            yield sample
