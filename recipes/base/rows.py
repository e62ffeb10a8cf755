"""What the scripts that make data/base/ share: reading the data sets, and the rows they write."""

import hashlib
import json
import lzma
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

from xllm.instructions import INSTRUCTIONS
from xllm.text import reading

EVERYDAY = (
    *("tatoeba", "common_voice_tw", "moztw_cc0", "wiktionary_examples", "chatterbot", "xsid_commands"),
    *("african_storybooks", "common_voice_cn", "cmrc2019_stories"),
)
DIALOGUES = ("crosswoz", "kdconv", "smilechat")


def read_rows(path: Path) -> list[dict]:
    """The rows of a JSON Lines file, which may be packed with xz."""
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def text_files(data: Path) -> list[Path]:
    """The files of `zh_text`, in the order of their names."""
    return sorted((data / "zh_text").glob("*.txt.xz"))


def text_lines(path: Path) -> Iterator[str]:
    """The sentences of one of them."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        yield from (line.strip() for line in file if line.strip())


def sentences(data: Path, seed: int) -> Iterator[tuple[str, str]]:
    """Source and sentence of `zh_text` without digits and Latin letters, shuffled: everyday first, then all others.

    Dialogues follow the everyday sentences, because people say them.
    """
    plain = [path.name.removesuffix(".txt.xz") for path in text_files(data) if ".mixed." not in path.name]
    others = [name for name in plain if name not in EVERYDAY + DIALOGUES]
    for names in (EVERYDAY, DIALOGUES, others):
        found = [name for name in names if name in plain]
        lines = [(name, line) for name in found for line in text_lines(data / "zh_text" / f"{name}.txt.xz")]
        random.Random(seed).shuffle(lines)
        yield from lines


def digest(text: str) -> str:
    """Ten digits that name a sentence, so that a recording is never taken for one of another."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def unpack(archive: Path, folder: Path) -> None:
    """Extract a tar of recordings."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def speech_row(name: str, speech: str, seconds: float, text: str) -> dict:
    """A row of a manifest for speech recognition; `reading` is None where the text is not all ideographs."""
    return {
        "id": name,
        "speech": speech,
        "duration": seconds,
        "instruction": INSTRUCTIONS["asr"][0],
        "response": text,
        "reading": reading(text),
    }
