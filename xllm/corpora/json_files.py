"""Large JSON files, one item at a time (ijson)."""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from xllm.corpora.raw import Raw
from xllm.errors import XLLMError


def items(raw: Raw, name: str, prefix: str) -> Iterator[Any]:
    """What stands at `prefix` (`annotations.item`: each entry of that list). Raises XLLMError where it is damaged."""
    import ijson

    return _read(raw, name, lambda file: ijson.items(file, prefix, use_float=True))


def pairs(raw: Raw, name: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Key and value of each entry of the object at `prefix`, of the whole file without one. Raises as `items`."""
    import ijson

    return _read(raw, name, lambda file: ijson.kvitems(file, prefix, use_float=True))


def _read(raw: Raw, name: str, parse: Callable[[BinaryIO], Iterator]) -> Iterator:
    import ijson

    with raw.open(name) as file:
        try:
            yield from parse(file)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise XLLMError(f"{raw.root}/{name}: damaged JSON ({' '.join(str(error).split())[:100]})") from None
