"""Claim: `xllm asr` on 10,000 utterances takes no more memory than on its first 500.

    python benchmarks/many.py data/tiny/test.jsonl [--utterances 10000] [--engine xllm]

The manifest's utterances over and over through one command; its resident memory (Linux) is read as its lines come out.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from xllm.manifest import iterate_manifest

COMMAND = [sys.executable, "-c", "from xllm_cli.main import main; main()"]
FIRST = 500


def resident(process: int) -> float:
    """Megabytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--engine", default="xllm")
    given = parser.parse_args()
    rows = list(iterate_manifest(given.manifest))
    seconds = sum(r["duration"] for r in itertools.islice(itertools.cycle(rows), given.utterances))
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "many.jsonl"
        with manifest.open("w") as out:
            for number, row in enumerate(itertools.islice(itertools.cycle(rows), given.utterances)):
                out.write(json.dumps({"id": str(number), "speech": str(Path(row["speech"]).resolve())}) + "\n")
        begun = time.perf_counter()
        call = [*COMMAND, "asr", "-q", "--engine", given.engine, str(manifest)]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
        memory = {}
        for number, _ in enumerate(process.stdout, start=1):
            if number % FIRST == 0:
                memory[number] = resident(process.pid)
        if process.wait():
            sys.exit("the command failed")
        taken = time.perf_counter() - begun
    most = max(memory.values())
    hours, shown = (
        seconds / 3600,
        {n: f"{size:.0f} MB" for n, size in memory.items() if n in (500, 1000, 2000, 5000, 10000)},
    )
    print(f"{given.utterances} utterances, {hours:.1f} hours: {taken:.0f} s, real-time factor {taken / seconds:.3f}")
    print(", ".join(f"{number}: {size}" for number, size in shown.items()))
    print(f"most after the first {FIRST}: {most:.0f} MB, {most / memory[FIRST]:.2f} times that after them")


if __name__ == "__main__":
    main()
