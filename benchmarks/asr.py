"""What the user waits for, and what it takes: start-up, one file, a batch, a two-hour file; batch against single.

    python benchmarks/asr.py data/tiny/test.jsonl data/tiny/test-seen.jsonl

Every figure is of the installed `xllm` command in a process of its own, as a user runs it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path
from statistics import median

from xllm.manifest import iterate_manifest
from xllm.media import load_audio

XLLM = [sys.executable, "-c", "from xllm_cli.main import main; main()"]


def run(*arguments: str) -> tuple[float, int, str]:
    """Seconds, peak resident bytes and stdout of one `xllm` call."""
    started = time.perf_counter()
    process = subprocess.Popen([*XLLM, *arguments], stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"xllm {' '.join(arguments)} failed")
    return time.perf_counter() - started, usage.ru_maxrss * 1024, out


def write_manifest(path: Path, samples: list[dict]) -> None:
    path.write_text(
        "".join(json.dumps({"id": s["id"], "speech": os.path.abspath(s["speech"])}) + "\n" for s in samples)
    )


def write_long(path: Path, samples: list[dict], hours: float) -> None:
    """A wav of utterances one after another, `hours` long."""
    waves = [(32767 * load_audio(s["speech"])).short().numpy().tobytes() for s in samples]
    left = int(hours * 3600 * 32000)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1), out.setsampwidth(2), out.setframerate(16000)
        while left > 0:
            for data in waves:
                out.writeframes(data[:left])
                left -= len(data)
                if left <= 0:
                    break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--hours", type=float, default=2.0)
    options = parser.parse_args()
    samples = [row for manifest in options.manifests for row in iterate_manifest(manifest)]
    help_seconds = median(run("--help")[0] for _ in range(5))
    print(f"xllm --help: {help_seconds:.2f} s (median of 5)")
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        longest = max(samples, key=lambda s: s["duration"])
        for engine in ("cif", "xllm"):
            seconds = median(run("asr", longest["speech"], "--engine", engine)[0] for _ in range(3))
            print(f"cold, one file of {longest['duration']:.1f} s, {engine}: {seconds:.1f} s (median of 3)")
        chosen = samples[:200]
        write_manifest(temporary / "batch.jsonl", chosen)
        total = sum(s["duration"] for s in chosen)
        for engine in ("cif", "xllm"):
            seconds, memory, _ = run("asr", str(temporary / "batch.jsonl"), "--engine", engine, "-f", "jsonl")
            print(
                f"200 utterances, {total:.0f} s, {engine}: real-time factor {seconds / total:.3f} with start-up, "
                f"{memory / 1e6:.0f} MB"
            )
        write_manifest(temporary / "all.jsonl", samples)
        for engine in ("cif", "xllm"):
            texts = [
                [
                    json.loads(line)["text"]
                    for line in run(
                        "asr", str(temporary / "all.jsonl"), "--engine", engine, "-f", "jsonl", "--batch-size", size
                    )[2].splitlines()
                ]
                for size in ("1", "16")
            ]
            different = sum(a != b for a, b in zip(*texts, strict=True))
            print(f"batches of 16 against one by one, {len(samples)} utterances, {engine}: {different} differ")
        write_long(temporary / "long.wav", samples, options.hours)
        seconds, memory, out = run("asr", str(temporary / "long.wav"), "--engine", "cif", "-f", "json")
        print(
            f"{options.hours:g} hours in one file, cif: {memory / 1e9:.2f} GB at most, real-time factor "
            f"{seconds / 3600 / options.hours:.3f}, {len(json.loads(out)['segments'])} segments"
        )


if __name__ == "__main__":
    main()
