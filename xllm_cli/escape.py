"""What may not reach a terminal, a line or an encoding as it is: shown as `\\n`, `\\x1b`, `\\u202e`, `\\udce9`.

Names of files may hold line breaks, terminal codes, marks that turn the direction of text, and bytes of another
encoding, which Python holds as lone surrogates.
"""

import codecs
import json
import re
import sys
from functools import cache
from typing import Any

_BREAKS = "\n\r\t"
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINE = re.compile(f"[{_BREAKS}{_CONTROLS}]")
_IN_JSON = re.compile(f"[{_CONTROLS}]")  # where json has written the breaks, and other controls below a space
ANY = "xllm-escape"  # handler of what an encoding lacks


def one_line(text: str) -> str:
    """The text as one line that is safe to show."""
    return _IN_LINE.sub(lambda found: ascii(found[0])[1:-1], text)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON, readable, that any terminal may show and UTF-8 can hold; readers get the very same strings."""
    return _IN_JSON.sub(lambda found: _units(found[0]), json.dumps(value, ensure_ascii=False, indent=indent))


def _units(text: str) -> str:
    """Characters as JSON writes them in ASCII."""
    return json.dumps(text)[1:-1]


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    _say(error.encoding)
    return _units(error.object[error.start : error.end]), error.end


@cache
def _say(encoding: str) -> None:
    remedy = "PYTHONIOENCODING=utf-8 writes them as they are"
    print(f"warning: stdout is in {encoding}: characters that it lacks become \\uXXXX; {remedy}", file=sys.stderr)


codecs.register_error(ANY, _escape)
