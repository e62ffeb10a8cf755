"""What is said about the pictures of `tiny`: spoken questions, and sentences that name what is seen, drowned in noise.

Texts become jobs for Kokoro, as in `tiny_voices`; what has been spoken becomes manifests. Test sets have the two test
voices, other sentences and, for pictures, the style that is never trained on.
"""

import random
import wave
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from xllm.corpora.tiny_instructions import ASK, ASK_KIND, ASK_WHETHER, NO, PICTURED, YES, heard_with_picture
from xllm.corpora.tiny_speech import speech_sample
from xllm.corpora.tiny_voices import blend, mix_voices
from xllm.errors import MediaError, XLLMError
from xllm.files import write_jsonl_atomic
from xllm.manifest import iterate_manifest
from xllm.media import SAMPLE_RATE, load_audio

TEST_VOICES = ("zf_xiaoyi", "zm_yunyang")
TAKES = {"train": 14, "test": 4}  # of each question, each in a voice of its own
SAY = {
    "train": (
        *("我看到了{}", "这里有{}", "{}真好看", "请把{}给我", "他很喜欢{}", "那边是{}", "我们去看{}吧"),
        *("你见过{}吗", "妈妈说起了{}", "昨天我梦见了{}", "{}在哪里", "老师画了{}", "电视上有{}"),
    ),
    "test": ("我想要{}", "图里画着{}", "谁有{}", "孩子们都爱{}"),
}
COUNTS = {"dev": 50, "test": 300}  # sentences that name a picture, and questions about one
CAPTION = "图中是{}"


def questions(kinds: Iterable[str]) -> list[str]:
    """Every question that is asked aloud: about anything, or about one of `kinds`."""
    return [*ASK["image"], *(question.format(kind) for kind in kinds for question in ASK_KIND)]


def _job(name: str, text: str, part: str) -> dict:
    draw = random.Random("spoken " + name)
    voice = {draw.choice(TEST_VOICES): 1.0} if part == "test" else blend(draw)
    return {"id": name, "text": text, "voice": voice, "speed": round(draw.uniform(0.85, 1.15), 3)}


def jobs(train: Sequence[str], test: Sequence[str], kinds: Sequence[str], seed: int = 0) -> list[dict]:
    """Jobs for Kokoro: questions, and sentences naming each picture of `train` and some of `test` (names)."""
    chance = random.Random(seed)
    asked = [
        _job(f"ask-{part}-{number}-{take}", text, part)
        for number, text in enumerate(questions(kinds))
        for part, takes in TAKES.items()
        for take in range(takes)
    ]
    names = {
        "train": train,
        "dev": chance.sample(train, min(COUNTS["dev"], len(train))),
        "test": chance.sample(test, min(COUNTS["test"], len(test))),
    }
    said = [
        _job(f"say-{part}-{name}", chance.choice(SAY["test" if part == "test" else "train"]).format(name), part)
        for part, some in names.items()
        for name in some
    ]
    return asked + said


def noisy(wave: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Speech [S] in noise as loud as itself (0 dB) and of the same spectrum: its own, with the phases drawn anew."""
    spectrum = np.fft.rfft(wave)
    noise = np.fft.irfft(np.abs(spectrum) * np.exp(2j * np.pi * draw.random(len(spectrum))), len(wave))
    noise *= np.sqrt(np.mean(wave**2) / max(np.mean(noise**2), 1e-12))
    mixed = wave + noise
    return mixed * min(1.0, 0.95 / max(np.abs(mixed).max(), 1e-9))


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Samples in -1..1 as 16-bit mono at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())


def _drown(target: Path, row: dict) -> dict | None:
    """A row of speech with its noisy copy in place of it; None when the speech cannot be read."""
    path = f"noisy/{row['id']}.wav"
    try:
        samples = load_audio(row["speech"]).numpy()
    except MediaError:
        return None
    seed = list(row["id"].encode())
    write_wav(target / path, noisy(samples, np.random.default_rng(seed)))
    return row | {"id": f"{row['id']}-noisy", "speech": path, "duration": round(len(samples) / SAMPLE_RATE, 2)}


def heard(
    target: Path, rows: Iterable[dict], pictures: Mapping[str, Sequence[str]], alone: bool, seed: int = 0
) -> Iterator[dict]:
    """Rows of speech that name something, in noise, with a picture of it (by name: paths).

    Every fourth also has a caption. With `alone`, each comes once more without its picture.
    """
    chance = random.Random(seed)
    for number, row in enumerate(rows):
        drowned = _drown(target, row)
        if drowned is None:
            continue
        seen = chance.choice(pictures[row["name"]])
        drowned.pop("name")
        caption = {"caption": CAPTION.format(row["name"])} if alone and number % 4 == 0 else {}
        yield drowned | {"image": seen, **caption}
        if alone:
            yield drowned | {"id": drowned["id"] + "-alone"}


def read(texts: Iterable[dict], pictures: Mapping[str, Sequence[str]], seed: int = 0) -> Iterator[dict]:
    """Sentences that name something, not spoken, with a picture of it: the decoder learns to look from them, too."""
    chance = random.Random(seed)
    rows = list(heard_with_picture(texts, pictures))
    for number, row in enumerate(chance.sample(rows, min(PICTURED, len(rows)))):
        name = row["told"]["image"]
        image = {"image": chance.choice(pictures[name]), "caption": CAPTION.format(name) if number % 4 == 0 else None}
        yield {"id": f"read-{number}", **image, "response": row["response"], "reading": row["reading"]}


def asked(
    pictures: Sequence[dict], kinds: Mapping[str, str | None], takes: Mapping[str, Sequence[str]], seed: int = 0
) -> Iterator[tuple[dict, dict]]:
    """For each picture, a question that fits: spoken in one of `takes` (paths, by text), and in writing."""
    for row in pictures:
        draw = random.Random(f"{seed} {row['id']}")
        name = row["response"]
        kind = kinds.get(name)
        fits = questions([kind]) if kind else list(ASK["image"])
        text = draw.choice([question for question in fits if takes.get(question)])
        image = {"image": row["image"], "response": name}
        spoken = {"speech": draw.choice(takes[text]), "instruction": draw.choice(ASK["speech"])}
        yield (
            {"id": f"{row['id']}-spoken", **image, **spoken},
            {"id": f"{row['id']}-typed", **image, "instruction": text},
        )


def whether(pictures: Sequence[dict], seed: int = 0) -> Iterator[dict]:
    """For each picture, a question whether something is there, which is so half of the time."""
    names = sorted({row["response"] for row in pictures})
    for row in pictures:
        draw = random.Random(f"whether {seed} {row['id']}")
        thing = row["response"] if draw.random() < 0.5 else draw.choice(names)
        yield {
            "id": f"{row['id']}-whether",
            "image": row["image"],
            "instruction": draw.choice(ASK_WHETHER).format(thing),
            "response": YES if thing == row["response"] else NO,
        }


def _relative(target: Path, path: str) -> str:
    return str(Path(path).relative_to(target.resolve()))


def prepare(
    target: Path, concepts: Sequence[tuple[str, str | None]], voices: Path | None = None, spoken: Path | None = None
) -> dict[str, int]:
    """Write `spoken-jobs.jsonl` into `target`, which holds pictures and speech; with `spoken`, the manifests, too.

    `concepts` are (name, kind), `voices` is Kokoro's folder of voices, to join them there, `spoken` that of `<id>.wav`.
    Returns counts; raises XLLMError when pictures are missing or nothing is spoken.
    """
    target = target.resolve()
    kinds = dict(concepts)
    seen = {}
    for part in ("train", "dev", "test-style"):
        rows = list(iterate_manifest(target / f"pictures-{part}.jsonl"))
        seen[part] = [row | {"image": _relative(target, row["image"][0])} for row in rows]
    by_name = {part: defaultdict(list) for part in seen}
    for part, rows in seen.items():
        for row in rows:
            by_name[part][row["response"]].append(row["image"])
    todo = jobs(list(by_name["train"]), list(by_name["test-style"]), sorted({k for k in kinds.values() if k}))
    write_jsonl_atomic(target / "spoken-jobs.jsonl", todo)
    counts = {"spoken jobs": len(todo)}
    if voices is not None:
        mix_voices(voices, todo)
    if spoken is None:
        return counts
    files = {job["id"]: str(spoken.resolve() / f"{job['id']}.wav") for job in todo}
    takes: dict[str, dict[str, list[str]]] = {part: defaultdict(list) for part in TAKES}
    said: dict[str, list[dict]] = defaultdict(list)
    for job in todo:
        if not Path(files[job["id"]]).exists():
            continue
        what, part, rest = job["id"].split("-", 2)
        if what == "ask":
            takes[part][job["text"]].append(files[job["id"]])
        else:
            said[part].append(speech_sample(job["id"], files[job["id"]], 0.0, job["text"]) | {"name": rest})
    if not takes["train"] or not said["train"]:
        raise XLLMError(f"{spoken}: nothing spoken there; speak spoken-jobs.jsonl first (docs/tiny.md)")
    corpus = {row["response"]: row for row in iterate_manifest(target / "train.jsonl")}
    for row in heard_with_picture(corpus.values(), by_name["train"]):
        name, row = row["told"]["image"], corpus[row["response"]]
        sample = speech_sample(row["id"], row["speech"], row["duration"], row["response"])
        said["train"].append(sample | {"name": name})
    texts = [row for name in ("text", "stretches") for row in iterate_manifest(target / f"{name}.jsonl")]
    manifests = {
        "heard-train": heard(target, said["train"], by_name["train"], True),
        "heard-dev": heard(target, said["dev"], by_name["train"], False),
        "heard-test": heard(target, said["test"], by_name["test-style"], False),
        "read-train": read(texts, by_name["train"]),
        "asked-train": _flat(asked(seen["train"], kinds, takes["train"]), whether(seen["train"])),
        "asked-dev": _flat(asked(seen["dev"], kinds, takes["train"])),
    }
    for name, rows in manifests.items():
        rows = list(rows)
        write_jsonl_atomic(target / f"{name}.jsonl", rows)
        counts[name] = len(rows)
    some = random.Random(0).sample(seen["test-style"], min(COUNTS["test"], len(seen["test-style"])))
    for number, name in enumerate(("asked-test", "asked-test-typed")):
        rows = [pair[number] for pair in asked(some, kinds, takes["test"])]
        write_jsonl_atomic(target / f"{name}.jsonl", rows)
        counts[name] = len(rows)
    return counts


def _flat(pairs: Iterable[tuple[dict, dict]], more: Iterable[dict] = ()) -> Iterator[dict]:
    for pair in pairs:
        yield from pair
    yield from more
