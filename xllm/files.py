"""Files that are whole or absent: written beside their place, flushed to disk, then renamed."""

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_BEGINNING, _END = ".xllm-", ".tmp"  # of files in the making, whose own names may be as long as names can be


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO]:
    """A file to write (text is UTF-8) that takes the place of `path` at the end of the block, if nothing was raised.

    Its folder is made. A reader sees the old file or the new one, never a part. Any OSError names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f"{_BEGINNING}{secrets.token_hex(8)}{_END}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_atomic(path: Path, text: str) -> None:
    """Write text as `replacing` does."""
    with replacing(path) as out:
        out.write(text)


def write_jsonl_atomic(path: Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line, atomically."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left in the making in a folder where nobody else writes now."""
    for path in Path(folder).glob(f"{_BEGINNING}*{_END}"):
        path.unlink(missing_ok=True)
