"""Sentences of zh_text in a real voice, put together from real_words' recordings of words.

    python recipes/base/spliced.py ../shared/data data/base --count 4000 --seed 1

writes OUT/spliced/*.flac and OUT/spliced-train.jsonl. A sentence is cut into the longest stretches whose readings were
recorded, where 70% of its characters must lie in stretches of two or more; the others are single syllables. A character
with several readings must lie in a recording of that very character. Almost all is Yue Tan's; what she never said comes
from other speakers of the training split. Each recording is trimmed, brought to the sentence's level and pace, and
joined by short crossfades; a factor of the sentence's own moves pitch and pace together, so that one person sounds like
several. Run speech.py first. Some three sentences a second; what exists is kept.
"""

import argparse
import random
import re
from collections import Counter, defaultdict
from functools import lru_cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from av.filter import Graph
from rows import digest, read_rows, sentences, speech_row, text_lines, unpack
from torchaudio.functional import resample

from xllm.files import write_jsonl_atomic
from xllm.media import load_audio
from xllm.text import normalize, reading

RATE = 16_000
LENGTHS = range(6, 26)  # characters of a sentence
LONGEST = 6  # characters of a stretch
COVERED = 0.7  # least share of characters in stretches of two and more
OTHERS = 0.2  # most of them that are other speakers'
SURE = 0.97  # share of a character's commonest reading, above which that is the one recorded
PACE = (0.17, 0.28)  # seconds a character
TEMPO = (0.9, 1.9)  # by which a recording may be made faster
SHIFTS = range(88, 116)  # hundredths, of pitch and pace
MARGIN, PAUSE, FADE = (0.01, 0.03), (0.1, 0.3), 0.01  # seconds: silence kept at both ends, at punctuation; crossfade
LEVEL, FLOOR = 0.07, (1e-4, 1e-3)  # root mean square of speech, and of the noise behind it

Recordings = dict[tuple[str, ...], list[str]]  # files by their sounds


def certain(data: Path) -> set[str]:
    """Characters that are nearly always read the same way."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for line in text_lines(data / "zh_text/tatoeba.txt.xz"):
        for character, syllable in zip(normalize(line), (reading(line) or "").split(), strict=False):
            counts[character][syllable] += 1
    return {c for c, n in counts.items() if n.most_common(1)[0][1] >= SURE * n.total()}


def sounds(text: str, sure: set[str]) -> tuple[str, ...] | None:
    """The tonal syllables of a text; with its character, where another reading is possible. None without readings."""
    said = (reading(text) or "").split()
    return tuple(s if c in sure else c + s for c, s in zip(normalize(text), said, strict=True)) if said else None


def recordings(data: Path, sure: set[str]) -> tuple[Recordings, Recordings]:
    """The training recordings of the main speaker, and those of others."""
    own, others = defaultdict(list), defaultdict(list)
    for row in read_rows(data / "real_words/manifest.jsonl"):
        text = row["text"]
        if row["split"] != "train" or (len(text) == 1 and text not in sure):
            continue
        if said := (row["pinyin"],) if row["pinyin"] else sounds(text, sure):
            (own if row["speaker"] == "Yue Tan" else others)[said].append(row["file"])
    return own, others


def cut(said: tuple[str, ...], own: Recordings, others: Recordings) -> list[tuple[str, ...]] | None:
    """The longest recorded stretches of a clause, one after another; None where a sound was never recorded."""
    parts, start = [], 0
    while start < len(said):
        stretches = (said[start : start + size] for size in range(min(LONGEST, len(said) - start), 0, -1))
        part = next((s for s in stretches if s in own or s in others), None)
        if part is None:
            return None
        parts.append(part)
        start += len(part)
    return parts


def script(text: str, sure: set[str], own: Recordings, others: Recordings) -> list[list[tuple[str, ...]]] | None:
    """What to say, clause by clause, or None where too little of the sentence was recorded."""
    size = len(normalize(text))
    said = sounds(text, sure) if size in LENGTHS else None
    if said is None:
        return None
    clauses = []
    for length in filter(None, (len(normalize(clause)) for clause in re.split(r"\W+", text))):
        clauses.append(cut(said[:length], own, others))
        said = said[length:]
    if None in clauses:
        return None
    parts = [part for clause in clauses for part in clause]
    covered = sum(len(part) for part in parts if len(part) > 1)
    strange = sum(len(part) for part in parts if part not in own)
    return clauses if covered >= COVERED * size and strange <= OTHERS * size else None


@lru_cache(4000)
def trimmed(path: Path) -> tuple[np.ndarray, int, int]:
    """A recording, and the samples between which it is louder than 4% of its loudest 10 ms."""
    wave = load_audio(path).numpy()
    hop = RATE // 100
    loud = np.sqrt((wave[: len(wave) // hop * hop].reshape(-1, hop) ** 2).mean(1))
    frames = np.flatnonzero(loud > 0.04 * loud.max())
    return wave, frames[0] * hop, (frames[-1] + 1) * hop


def faster(wave: np.ndarray, tempo: float) -> np.ndarray:
    """The same in less time at the same pitch (FFmpeg's atempo)."""
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate = RATE
    graph = Graph()
    graph.link_nodes(
        graph.add_abuffer(sample_rate=RATE, format="fltp", layout="mono"),
        graph.add("atempo", f"{tempo:.4f}"),
        graph.add("abuffersink"),
    ).configure()
    graph.push(frame)
    graph.push(None)
    blocks = []
    while True:
        try:
            blocks.append(graph.pull().to_ndarray()[0])
        except (av.BlockingIOError, av.EOFError):
            return np.concatenate(blocks)


def spoken(path: Path, characters: int, pace: float, draw: random.Random) -> np.ndarray:
    """A recording at the level and the pace (seconds a character) of its sentence."""
    wave, start, end = trimmed(path)
    tempo = min(max((end - start) / RATE / (pace * characters), TEMPO[0]), TEMPO[1])
    before, after = (int(draw.uniform(*MARGIN) * tempo * RATE) for _ in range(2))
    level = LEVEL * 10 ** (draw.uniform(-1.5, 1.5) / 20) / np.sqrt((wave[start:end] ** 2).mean())
    return faster(np.ascontiguousarray(wave[max(start - before, 0) : end + after]) * np.float32(level), tempo)


def joined(waves: list[np.ndarray]) -> np.ndarray:
    """Waves one after another, crossfaded."""
    size = int(FADE * RATE)
    ramp = np.linspace(0, 1, size, dtype="f4")
    whole = waves[0].copy()
    for wave in waves[1:]:
        whole[-size:] = whole[-size:] * (1 - ramp) + wave[:size] * ramp
        whole = np.concatenate([whole, wave[size:]])
    whole[:size] *= ramp
    whole[-size:] *= 1 - ramp
    return whole


def sentence(clauses: list, folder: Path, own: Recordings, others: Recordings, draw: random.Random) -> np.ndarray:
    """The sound of a sentence."""
    shift = draw.choice(SHIFTS) / 100
    pace = draw.uniform(*PACE) * shift
    waves = [np.zeros(int(draw.uniform(*PAUSE) * RATE), "f4")]
    for clause in clauses:
        files = [(folder / draw.choice(own.get(part) or others[part]), len(part)) for part in clause]
        waves.append(joined([spoken(path, size, pace, draw) for path, size in files]))
        waves.append(np.zeros(int(draw.uniform(*PAUSE) * RATE), "f4"))
    wave = np.concatenate(waves)
    wave = resample(torch.from_numpy(wave), int(RATE * shift), RATE).numpy()
    wave += np.random.default_rng(draw.randrange(1 << 32)).normal(0, draw.uniform(*FLOOR), len(wave)).astype("f4")
    return wave * min(1.0, 0.9 / np.abs(wave).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("out", type=Path, nargs="?", default=Path("data/base"))
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    folder = args.out / "audio/real_words"
    unpack(args.data / "real_words/syllables.tar", folder)
    (args.out / "spliced").mkdir(parents=True, exist_ok=True)
    sure = certain(args.data)
    own, others = recordings(args.data, sure)
    scripts = ((text, script(text, sure, own, others)) for _, text in sentences(args.data, args.seed))
    rows = []
    for text, clauses in islice((pair for pair in scripts if pair[1]), args.count):
        name = f"sp{args.seed}-{digest(text)}"
        path = args.out / "spliced" / f"{name}.flac"
        if not path.exists():
            wave = sentence(clauses, folder, own, others, random.Random(name))
            soundfile.write(path.with_suffix(".tmp"), wave, RATE, format="FLAC")
            path.with_suffix(".tmp").rename(path)
        rows.append(speech_row(name, f"spliced/{name}.flac", round(soundfile.info(path).duration, 2), text))
    write_jsonl_atomic(args.out / "spliced-train.jsonl", rows)
    seconds, characters = (sum(row["duration"] for row in rows), sum(len(normalize(row["response"])) for row in rows))
    print(f"{len(rows)} sentences, {seconds / 3600:.2f} hours, {seconds / characters:.2f} seconds a character")


if __name__ == "__main__":
    main()
