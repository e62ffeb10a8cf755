"""What `--draft-threshold` costs and gains: error rate and time of `xllm asr`'s own way, from files to texts.

    python benchmarks/draft_threshold.py data/tiny/test.jsonl

Settings take turns, so that what else the machine does meets all of them; seconds are medians of the rounds. The last
line is `--engine cif`, whose text a threshold of 0 takes.
"""

import argparse
import time
from pathlib import Path
from statistics import median

from xllm.evaluation.recognition import read_references, summarize, transcribe_manifest
from xllm.model import XLLM

SETTINGS = [("--no-draft", False, None), ("default", True, None)]
SETTINGS += [(f"{threshold}", True, threshold) for threshold in (0.9, 0.8, 0.6, 0.4, 0.0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = XLLM.from_pretrained(options.model)
    utterances, _ = read_references(options.manifest)
    rates: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, model.drafts, model.draft_threshold in [*SETTINGS, ("--engine cif", True, None)]:
            begun = time.perf_counter()
            run = transcribe_manifest(utterances, model, "cif" if name.startswith("--engine") else "xllm")
            seconds.setdefault(name, []).append(time.perf_counter() - begun)
            rates[name] = summarize(run.scores).cer
    print("| | character errors | seconds |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.2f}% | {median(seconds[name]):.2f} |")


if __name__ == "__main__":
    main()
