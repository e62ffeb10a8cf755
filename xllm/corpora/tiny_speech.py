"""The tiny speech corpus (docs/tiny.md): its tars and manifest to audio files and our manifests."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from xllm.errors import ManifestError, XLLMError
from xllm.files import write_jsonl_atomic
from xllm.instructions import INSTRUCTIONS
from xllm.text import reading

SPLITS = ("train", "dev", "dev-seen", "test", "test-seen")
Progress = Callable[[str, int, int], None]


def read_corpus(source: Path) -> list[dict]:
    """Rows of the corpus' own manifest; raises ManifestError when it is missing or broken."""
    path = source / "manifest.jsonl"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise ManifestError(f"{path}: cannot read: {error.strerror}; give the folder of tiny_speech") from None
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}: not JSON Lines ({error.msg})") from None


def extract(archive: Path, target: Path) -> int:
    """Unpack the `<id>.opus` members of a tar into `target`; anything else is left alone. Returns their number."""
    target.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if not member.isfile() or not name.endswith(".opus"):
                    continue
                path = target / name
                if not path.exists() or path.stat().st_size != member.size:
                    with tar.extractfile(member) as data, path.open("wb") as out:
                        shutil.copyfileobj(data, out)
                count += 1
    except (OSError, tarfile.TarError) as error:
        raise XLLMError(f"{archive}: cannot be unpacked ({error}); copy the corpus again") from None
    return count


def prepare(source: Path, target: Path, progress: Progress | None = None) -> dict[str, int]:
    """Write audio and one manifest per split into `target`; returns counts by split.

    Raises XLLMError when the corpus is not there or damaged.
    """
    rows = read_corpus(source)
    counts: dict[str, int] = {}
    for number, split in enumerate(SPLITS):
        if progress:
            progress("splits", number, len(SPLITS))
        extract(source / f"{split}.tar", target / "audio" / split)
        samples = [
            speech_sample(row["id"], f"audio/{split}/{row['id']}.opus", row["duration"], row["text"])
            for row in rows
            if row["split"] == split
        ]
        if missing := [s["speech"] for s in samples if not (target / s["speech"]).exists()]:
            raise XLLMError(f"{source / f'{split}.tar'}: lacks {missing[0]} and {len(missing) - 1} more")
        counts[split] = len(samples)
        write_jsonl_atomic(target / f"{split}.jsonl", samples)
    return counts


def speech_sample(name: str, speech: str, duration: float, text: str) -> dict:
    """One row of a manifest for speech recognition; `duration` in seconds."""
    return {
        "id": name,
        "speech": speech,
        "duration": duration,
        "instruction": INSTRUCTIONS["asr"][0],
        "response": text,
        "reading": reading(text),
    }
