"""More speech in many timbres: sentences of zh_text spoken by Kokoro-82M (Apache 2.0) in blends of its voices.

    python recipes/base/voices.py ../shared/data data/base --home kokoro --python kokoro-env/bin/python --shard 0/2

writes OUT/voice-jobs.jsonl: the jobs left over from data/voices as they are, then --more sentences, everyday ones
first, in blends of a Mandarin voice with any other of the training voices (tiny_speech's test voices, zf_xiaoyi and
zm_yunyang, are in none). With --home it speaks every n-th of them from the k-th on, into OUT/voices/*.wav; what exists
is kept, so that it may be stopped and started again. At its end, and without --home at once, it writes
OUT/voices-more-train.jsonl of all that has been spoken. About 1.3 times real time on one core.

Kokoro is spoken by ../shared/tools/kokoro_zh.py (its head says how to set it up: a folder `kokoro` and an environment
with onnxruntime and misaki[zh], which need not be the one of xllm: --python).
"""

import argparse
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import soundfile
from rows import digest, read_rows, sentences, speech_row

from xllm.files import write_jsonl_atomic
from xllm.text import normalize, reading

TEST_VOICES = {"zf_xiaoyi", "zm_yunyang"}
LENGTHS = range(4, 26)  # characters
MANDARIN = (0.3, 1.0)  # share of the Mandarin voice
SPEED = (0.82, 1.22)


def training_voices(said: list[dict]) -> list[str]:
    """The voices that rows or jobs have, but for those of tests."""
    return sorted({voice for row in said for voice in row["voice"]} - TEST_VOICES)


def blend(draw: random.Random, voices: list[str]) -> dict[str, float]:
    """A Mandarin voice with any other."""
    first = draw.choice([voice for voice in voices if voice.startswith("z")])
    second = draw.choice([voice for voice in voices if voice != first])
    share = round(draw.uniform(*MANDARIN), 2)
    return {first: share, second: round(1 - share, 2)}


def more_jobs(data: Path, said: list[dict], count: int) -> list[dict]:
    """Jobs for sentences that nobody has said yet; `said` are the rows and jobs of data/voices."""
    known = {normalize(row["text"]) for row in said}
    voices = training_voices(said)
    fresh = (
        (source, text)
        for source, text in sentences(data, seed=2)
        if len(normalize(text)) in LENGTHS and normalize(text) not in known and reading(text)
    )
    jobs = []
    for source, text in islice(fresh, count):
        draw = random.Random(f"voice {text}")
        voice, speed = blend(draw, voices), round(draw.uniform(*SPEED), 2)
        jobs.append({"id": f"km-{digest(text)}", "text": text, "voice": voice, "speed": speed, "source": source})
    return jobs


def write_jobs(path: Path, jobs: list[dict]) -> None:
    """Write them, unless they stand there already: processes that speak them may be reading."""
    if not path.exists() or read_rows(path) != jobs:
        write_jsonl_atomic(path, jobs)


def say(data: Path, jobs: Path, folder: Path, home: Path, python: str, shard: str) -> None:
    """Speak jobs into a folder with Kokoro, which has its `home` and an interpreter that has what it needs."""
    tool = data.parent / "tools/kokoro_zh.py"
    subprocess.run([python, tool, "say", jobs, folder, "--home", home, "--shard", shard], check=True)


def spoken(jobs: list[dict], out: Path, folder: str) -> list[dict]:
    """Rows of a manifest in `out` for the jobs whose recording lies in its `folder` and can be read."""
    rows, broken = [], 0
    for job in jobs:
        path = f"{folder}/{job['id']}.wav"
        if not (out / path).exists():
            continue
        try:
            seconds = round(soundfile.info(out / path).duration, 2)
        except soundfile.LibsndfileError:
            broken += 1
            continue
        rows.append(speech_row(job["id"], path, seconds, job["text"]))
    if broken:
        print(f"{broken} recordings in {out / folder} cannot be read and are left out", file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("out", type=Path, nargs="?", default=Path("data/base"))
    parser.add_argument("--more", type=int, default=20_000, help="sentences beside those of jobs-left.jsonl.xz")
    parser.add_argument("--home", type=Path, help="Kokoro's folder: speak")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has what Kokoro needs")
    parser.add_argument("--shard", default="0/1", help="k/n: speak every n-th job from the k-th on")
    args = parser.parse_args()
    jobs = read_rows(args.data / "voices/jobs-left.jsonl.xz")
    jobs += more_jobs(args.data, [*read_rows(args.data / "voices/manifest.jsonl"), *jobs], args.more)
    path = args.out / "voice-jobs.jsonl"
    write_jobs(path, jobs)
    if args.home:
        say(args.data, path, args.out / "voices", args.home, args.python, args.shard)
    rows = spoken(jobs, args.out, "voices")
    write_jsonl_atomic(args.out / "voices-more-train.jsonl", rows)
    print(f"{len(jobs)} jobs, {len(rows)} spoken, {sum(row['duration'] for row in rows) / 3600:.2f} hours")


if __name__ == "__main__":
    main()
