"""A folder of texts by key, one file each, which threads and processes may share."""

import json
from pathlib import Path
from typing import Any

from xllm.errors import ConfigError
from xllm.files import write_atomic


class TextCache:
    """Texts by key; keys are hexadecimal digests of all that a text depends on."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> str | None:
        """The text, or None when there is none or its file is damaged. Raises ConfigError when it cannot be read."""
        try:
            text = json.loads(self._path(key).read_text(encoding="utf-8"))["text"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self.folder}: the cache cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError, LookupError, TypeError):
            return None
        return text if isinstance(text, str) else None

    def put(self, key: str, text: str, **about: Any) -> None:
        """Keep a text, on disk when this returns, and what it is `about`. Raises ConfigError when it cannot be."""
        try:
            write_atomic(self._path(key), json.dumps({"text": text, **about}))
        except OSError as error:
            raise ConfigError(f"{self.folder}: the cache cannot be written: {error.strerror}") from None
