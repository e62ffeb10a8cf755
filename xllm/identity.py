"""What a result depends on, as hashes of contents: of input files, and of models. Names and places do not count."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from xllm import checkpoint
from xllm.errors import MediaError
from xllm.media import existing, name_of, opened


def of_media(source: str | BinaryIO) -> str:
    """SHA-256 of the bytes of a file, of a member of an archive, or of what came through a pipe. Raises MediaError."""
    name = name_of(source)
    with opened(existing(source), name) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise MediaError(f"{name}: cannot be read: {error.strerror}") from None


def of_model(name: str | Path) -> str:
    """SHA-256 of all that a checkpoint computes with: architecture, weights, tokenizer, and the parts it lies beside.

    A language model or another part that it names in a folder counts by its files, one on the hub by name and revision.
    Raises ConfigError.
    """
    folder = checkpoint.find(name)
    card = checkpoint.read_card(folder)
    about = card.model_dump(mode="json", exclude={"name": True, "frozen": True, "model": {"tokenizer"}})
    parts = [_of_folders(about), _of_files(folder, [folder / "model.safetensors"])]
    if card.model.tokenizer:
        parts.append(_of_files(card.model.tokenizer, card.model.tokenizer.rglob("*")))
    parts += map(of_model, card.frozen)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _of_files(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Hash of each of the files in a folder, by its name there."""
    return {str(path.relative_to(folder)): of_media(str(path)) for path in sorted(paths) if path.is_file()}


def _of_folders(value: Any) -> Any:
    """Plain data in which the hashes of a folder's files stand for its path."""
    if isinstance(value, dict):
        return {key: _of_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_of_folders(one) for one in value]
    if isinstance(value, str) and "/" in value and os.path.isdir(value):
        return _of_files(Path(value), Path(value).rglob("*"))
    return value
