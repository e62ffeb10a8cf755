"""The tiny speech corpus (docs/data.md): its tars and manifest to audio files and our manifests.

Every sentence of `train` is spoken once. `second_voice_jobs` says how to speak them again in other blends of the
training voices (with a synthesiser of the user's choice); what exists of that joins `train`.
"""

import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from xllm.errors import ManifestError, XLLMError
from xllm.files import write_jsonl_atomic
from xllm.media import probe_audio
from xllm.prompt import INSTRUCTIONS
from xllm.text import reading

SPLITS = ("train", "dev", "dev-seen", "test", "test-seen")
VOICES = ("zf_xiaobei", "zf_xiaoni", "zf_xiaoxiao", "zm_yunjian", "zm_yunxi", "zm_yunxia")  # not the test voices
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


def second_voice_jobs(rows: list[dict]) -> list[dict]:
    """One job per training sentence, in a fixed shuffled order: id, text, a blend of voices, a speed.

    Blends and speeds are drawn from the sentence's id alone, so that any part can be made again.
    """
    jobs = []
    for row in rows:
        if row["split"] != "train":
            continue
        draw = random.Random("second voice " + row["id"])
        voices = draw.sample(VOICES, draw.randint(1, 3))
        weights = [draw.random() + 0.1 for _ in voices]
        blend = {voice: round(weight / sum(weights), 3) for voice, weight in zip(voices, weights, strict=True)}
        jobs.append(
            {"id": row["id"] + "-v2", "text": row["text"], "voice": blend, "speed": round(draw.uniform(0.85, 1.2), 3)}
        )
    random.Random(0).shuffle(jobs)
    return jobs


def prepare(
    source: Path, target: Path, second_voice: Path | None = None, progress: Progress | None = None
) -> dict[str, int]:
    """Write audio, one manifest per split and `second-voice-jobs.jsonl` into `target`; returns counts by name.

    Audio of `second_voice` (`<job id>.wav`) that can be read joins the training manifest by reference. Raises
    XLLMError when the corpus is not there or damaged.
    """
    rows = read_corpus(source)
    jobs = second_voice_jobs(rows)
    counts: dict[str, int] = {}
    for number, split in enumerate(SPLITS):
        if progress:
            progress("splits", number, len(SPLITS))
        extract(source / f"{split}.tar", target / "audio" / split)
        samples = [
            _sample(row["id"], f"audio/{split}/{row['id']}.opus", row["duration"], row["text"])
            for row in rows
            if row["split"] == split
        ]
        if missing := [s["speech"] for s in samples if not (target / s["speech"]).exists()]:
            raise XLLMError(f"{source / f'{split}.tar'}: lacks {missing[0]} and {len(missing) - 1} more")
        counts[split] = len(samples)
        if split == "train" and second_voice is not None:
            more = [
                _sample(job["id"], str(path), round(probe_audio(path), 2), job["text"])
                for job in jobs
                if (path := second_voice.resolve() / f"{job['id']}.wav").exists()
            ]
            counts["second voice"] = len(more)
            samples += more
        write_jsonl_atomic(target / f"{split}.jsonl", samples)
    write_jsonl_atomic(target / "second-voice-jobs.jsonl", jobs)
    return counts


def _sample(name: str, speech: str, duration: float, text: str) -> dict:
    return {
        "id": name,
        "speech": speech,
        "duration": duration,
        "instruction": INSTRUCTIONS["asr"],
        "response": text,
        "reading": reading(text),
    }
