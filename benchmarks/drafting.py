"""Claim: with a draft of 5% errors an answer takes at most 1/6 of greedy search's passes, with 10% at most 1/4.

    python benchmarks/drafting.py [--rows 24] [--width 896 --layers 24 --vocabulary 151936] [--dtype bfloat16]

A random language model of Qwen3's shape, and drafts that are its own greedy answers with a share of
tokens replaced, left out or put in. Ours and greedy search take turns on the same prompts; the answers are compared.
Prints passes, seconds and their ratios at batches of 1, 4 and 8.
"""

import argparse
import random
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from random_llm import language_model
from test_drafting import spoiled

from xllm.drafting import verify
from xllm.generation import generate
from xllm.llm.causal import CausalLM
from xllm.pace import Pace

PROMPT, ANSWER = 40, 22  # tokens, as of an utterance of AISHELL


class Tokenizer:
    """No text is read here."""

    eos_token_id = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    given = parser.parse_args()
    dtype = getattr(torch, given.dtype)
    llm = CausalLM(language_model(given.width, given.layers, given.vocabulary).to(dtype), Tokenizer())
    chance = random.Random(0)
    prompts = torch.randn(given.rows, PROMPT, given.width, dtype=dtype) * llm.embeddings.std()
    print(f"{sum(p.numel() for p in llm.parameters()) / 1e6:.0f} million parameters, {given.rows} answers of {ANSWER}")
    print(
        f"{'batch':>6}{'errors':>8}{'passes':>9}{'greedy':>8}{'ratio':>7}{'s':>8}{'greedy':>8}{'ratio':>7}{'same':>6}"
    )
    mask, limits = torch.ones(prompts.shape[:2], dtype=torch.bool), [ANSWER] * given.rows
    for size in (1, 4, 8):
        for share in (0.0, 0.05, 0.1, 0.2):
            begun = time.perf_counter()
            greedy = [a for e, m in zip(prompts.split(size), mask.split(size), strict=True)
                      for a in generate(llm, e, m, [ANSWER] * len(e))]  # fmt: skip
            usual = time.perf_counter() - begun
            drafts = [spoiled(chance, answer.ids, share, given.vocabulary) for answer in greedy]
            pace = Pace() if dtype == torch.float32 else None  # as XLLM has it
            begun = time.perf_counter()
            made = verify(llm, lambda rows: (prompts[rows], mask[rows]), limits, drafts, size, pace)
            ours = time.perf_counter() - begun
            same = sum(a.ids == b.ids for a, b in zip(made.answers, greedy, strict=True))
            passes, writes = sum(made.passes), sum(len(answer.ids) for answer in greedy)
            print(f"{size:>6}{share:>8.0%}{passes:>9}{writes:>8}{writes / passes:>7.1f}"
                  f"{ours:>8.1f}{usual:>8.1f}{usual / ours:>7.1f}{same:>6}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
