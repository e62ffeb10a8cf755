"""The report of an evaluation: `report.json` for programs, `report.md` to paste, and `report.html` to look at.

The page is one file that asks no network for anything: pictures, films and short sounds are inside it. What systems and
judges wrote is data there: it is never parsed as HTML, and the page's policy runs no script but its own.
"""

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from xllm.errors import MediaError
from xllm.files import write_atomic
from xllm.films import load_frames
from xllm.media import existing
from xllm.pictures import load_picture

LONGEST_SIDE = 320  # pixels of what stands for a picture or a film
MAX_SOUND = 200_000  # bytes: a minute of speech as opus, six seconds as wav
MAX_MEDIA = 40_000_000  # characters of all that is put into the page: more makes browsers slow
_SOUNDS = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
}
# What ends a script element or a line of script; in JSON strings each may as well stand as its number.
_NUMBERED = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})

Table = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Medium:
    """A file that was shown or played."""

    kind: Literal["image", "video", "speech"]
    path: str


@dataclass(frozen=True)
class Sample:
    """One row of the page: what was given (`media`), said (`texts`) and measured (`numbers`), each by its label.

    `group` is what the page can be narrowed to: a category or a column of the table. A number that is None is unscored.
    `wrong` is None where right and wrong mean nothing.
    """

    id: str
    group: str = ""
    media: Sequence[Medium] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    wrong: bool | None = None


@dataclass(frozen=True)
class Report:
    """All of one evaluation: `tables` of text by caption, each with a head and one name a row, and `figures`, JSON.

    `command` is what was typed, `settings` what it meant.
    """

    title: str
    tables: Mapping[str, Table]
    figures: Mapping[str, Any]
    samples: Sequence[Sample]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    command: str = ""


def write(folder: Path, report: Report) -> None:
    """Write `report.json`, `report.md` and `report.html` into `folder`, each whole or not at all.

    A file of a sample that cannot be read is said in the page. Raises OSError when the folder cannot be written, and
    ValueError for numbers that are not finite, which JSON cannot hold.
    """
    whole = json.dumps(asdict(report), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    for name, text in (("report.json", whole), ("report.md", markdown(report)), ("report.html", page(report))):
        write_atomic(Path(folder) / name, text.encode("utf-8", "replace").decode())  # lone surrogates are no UTF-8


def markdown(report: Report) -> str:
    """The report without its samples, as GitHub reads it."""
    blocks = [f"# {_escaped(report.title)}"]
    for caption, (head, *rows) in report.tables.items():
        ruled = ["---", *["--:"] * (len(head) - 1)]
        lines = [map(_escaped, head), ruled, *(map(_escaped, row) for row in rows)]
        blocks += [_escaped(caption), "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    blocks += map(_escaped, report.notes)
    if report.command:
        blocks += ["Made by:", "    " + report.command.replace("\n", "\n    ")]
    if report.settings:
        blocks += ["Settings:", "\n".join(f"* {_escaped(k)}: {_escaped(v)}" for k, v in report.settings.items())]
    return "\n\n".join(blocks) + "\n"


def _escaped(text: Any) -> str:
    """One line in which nothing is Markdown or HTML; what is no text as JSON."""
    text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", " ".join(text.split()))


def page(report: Report) -> str:
    """The report as HTML."""
    shelf = _Shelf()
    samples = [asdict(s) | {"media": [shelf.place(medium) for medium in s.media]} for s in report.samples]
    data = asdict(report) | {"samples": samples, "media": shelf.shown, "figures": None}
    template = resources.files("xllm.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = template.replace("SCRIPT-HASH", allowed)
    return template.replace("REPORT-DATA", json.dumps(data, ensure_ascii=False, allow_nan=False).translate(_NUMBERED))


class _Shelf:
    """What the page shows of each file, once however many samples have it, until there is too much."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []
        self._places: dict[Medium, int] = {}
        self._held, self._full = 0, False

    def place(self, medium: Medium) -> int:
        if medium not in self._places:
            self._places[medium] = len(self.shown)
            self.shown.append({"kind": medium.kind, "path": medium.path} | self._content(medium))
        return self._places[medium]

    def _content(self, medium: Medium) -> dict[str, str]:
        try:
            url = "" if self._full else _data_url(medium)
        except (MediaError, OSError) as error:
            return {"said": f"cannot be shown: {error}"}
        self._full = self._full or self._held + len(url) > MAX_MEDIA
        if self._full:
            return {"said": f"not in the page, which holds {MAX_MEDIA // 1_000_000} MB of media"}
        self._held += len(url)
        return {"url": url} if url else {"said": "not in the page: long, or of a format that browsers do not play"}


def _data_url(medium: Medium) -> str:
    """What stands for a file; nothing for a long sound. Raises MediaError or OSError."""
    if medium.kind == "image":
        return _thumbnail(load_picture(medium.path))
    if medium.kind == "video":
        return _thumbnail(load_frames(medium.path, 1)[0])
    path = Path(str(existing(medium.path)))
    kind = _SOUNDS.get(path.suffix.lower())
    if not kind or not path.is_file() or path.stat().st_size > MAX_SOUND:
        return ""
    return _url(kind, path.read_bytes())


def _thumbnail(picture: Tensor) -> str:
    """A picture [3, H, W] made small, as PNG (drawings) or JPEG (photographs), whichever is shorter."""
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    drawn, photographed = io.BytesIO(), io.BytesIO()
    image.save(drawn, "PNG", optimize=True)
    image.save(photographed, "JPEG", quality=80)
    if len(drawn.getvalue()) <= len(photographed.getvalue()):
        return _url("image/png", drawn.getvalue())
    return _url("image/jpeg", photographed.getvalue())


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
