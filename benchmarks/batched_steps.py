"""Claim: `translate` and `filter --clip` use batches: at least 5 times as many rows a second as one by one.

    python benchmarks/batched_steps.py [--rounds 5]

Small random models, the same step with its batch of 64 and with a batch of 1, taking turns. Prints medians.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from small_models import CHARACTERS, small_clip, small_mbart

from xllm.steps.filter import Filter
from xllm.steps.run import CHUNK, apply
from xllm.steps.translate import Translate

WIDTH = 64


def rows(folder: Path) -> list[dict]:
    """A chunk of different texts of 6 to 12 characters, each with a picture of noise."""
    chance, made = np.random.default_rng(0), []
    for number in range(CHUNK):
        path = folder / f"{number}.png"
        Image.fromarray(chance.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(path)
        text = "".join(chance.choice(list(CHARACTERS[:18]), chance.integers(6, 13)))
        made.append({"id": str(number), "image": str(path), "response": text})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        chunk = rows(root)
        mbart = str(small_mbart(root / "mbart", width=WIDTH))
        clip = str(small_clip(root / "clip", width=WIDTH, layers=4, size=32))
        steps = {
            "translate": lambda size: Translate(model=mbart, source="zh", target="en", batch_size=size, device="cpu"),
            "filter": lambda size: Filter(clip=clip, min_similarity=-1, batch_size=size, device="cpu"),
        }
        print(f"{torch.get_num_threads()} threads, chunks of {CHUNK} rows")
        print(f"{'':12}{'batch 64':>12}{'one by one':>12}{'ratio':>8}")
        for name, step in steps.items():
            rates: dict[int, list[float]] = {64: [], 1: []}
            ready = {size: step(size) for size in rates}
            for size in rates:
                apply(ready[size], chunk[:8])  # loads the model
            for _ in range(given.rounds):
                for size, found in rates.items():
                    begun = time.perf_counter()
                    apply(ready[size], chunk)
                    found.append(len(chunk) / (time.perf_counter() - begun))
            many, one = (statistics.median(found) for found in rates.values())
            print(f"{name:12}{many:>10,.0f}/s{one:>10,.0f}/s{many / one:>8.1f}")


if __name__ == "__main__":
    main()
