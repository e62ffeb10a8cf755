"""Claim: with a draft of 5% errors an answer takes at most 1/6 of greedy search's passes, with 10% at most 1/4.

    python benchmarks/drafting.py [--rows 24] [--width 1024 --layers 28 --vocabulary 151936]

A random language model of Qwen3-0.6B's shape, in float32, and drafts that are its own greedy answers with a share of
tokens replaced, left out or put in. Ours and greedy search take turns on the same prompts; the answers are compared.
Prints passes, seconds and their ratios at batch 1 and 8.
"""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from test_drafting import spoiled

from xllm.drafting import verify
from xllm.generation import generate
from xllm.llm.causal import CausalLM
from xllm.pace import Pace

PROMPT, ANSWER = 40, 22  # tokens, as of an utterance of AISHELL


class Tokenizer:
    """No text is read here."""

    eos_token_id = 0


def language_model(width: int, layers: int, vocabulary: int) -> CausalLM:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
        eos_token_id=0,
    )
    model = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        # What a token is must weigh more than where it stands, and the likeliest next one must be another: a random
        # model says the same word for ever.
        table = model.get_input_embeddings().weight.mul_(20)
        model.lm_head.weight = torch.nn.Parameter(table[torch.randperm(vocabulary)])
    return CausalLM(model, Tokenizer())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--vocabulary", type=int, default=151936)
    given = parser.parse_args()
    llm, chance = language_model(given.width, given.layers, given.vocabulary), random.Random(0)
    prompts = torch.randn(given.rows, PROMPT, given.width) * llm.embeddings.std()
    print(f"{sum(p.numel() for p in llm.parameters()) / 1e6:.0f} million parameters, {given.rows} answers of {ANSWER}")
    print(
        f"{'batch':>6}{'errors':>8}{'passes':>9}{'greedy':>8}{'ratio':>7}{'s':>8}{'greedy':>8}{'ratio':>7}{'same':>6}"
    )
    for size in (1, 8):
        batches = prompts.split(size)
        for share in (0.0, 0.05, 0.1, 0.2):
            passes, writes, same, ours, usual, pace = 0, 0, 0, [], [], Pace()
            for embeds in batches:
                mask, limits = torch.ones(embeds.shape[:2], dtype=torch.bool), [ANSWER] * len(embeds)
                begun = time.perf_counter()
                greedy = generate(llm, embeds, mask, limits)
                usual.append(time.perf_counter() - begun)
                drafts = [spoiled(chance, answer.ids, share, given.vocabulary) for answer in greedy]
                begun = time.perf_counter()
                made = verify(llm, embeds, mask, limits, drafts, pace)
                ours.append(time.perf_counter() - begun)
                same += sum(a.ids == b.ids for a, b in zip(made.answers, greedy, strict=True))
                passes += sum(made.passes)
                writes += sum(len(answer.ids) for answer in greedy)
            lean, whole = statistics.median(ours), statistics.median(usual)
            print(f"{size:>6}{share:>8.0%}{passes:>9}{writes:>8}{writes / passes:>7.1f}"
                  f"{lean:>8.2f}{whole:>8.2f}{whole / lean:>7.1f}{same:>6}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
