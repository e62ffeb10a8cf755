"""Claim: a training step at a vocabulary of 150,000 takes 1/3 of the memory of logits at every position, or less.

    python benchmarks/llm_step.py [--width 896 --layers 24] [--batch 8 --rounds 5]

A frozen random language model of Qwen3's shape; gradients go through it to the embeddings in front, as in stage 2.
Each way in a process of its own; memory is the peak of a step above what the model takes, seconds are medians. `full`:
logits at every position, utterances of any lengths in a batch; `answers`: ours, on the same batch; `sorted`: ours, a
batch of like lengths (of the same number of real tokens); `packed`: the same utterances in one row without any padding,
where each sees itself alone; `compiled`: `sorted` through torch.compile.
"""

import argparse
import resource
import subprocess
import sys
import time
from statistics import median

import torch
from random_llm import language_model
from torch.nn.functional import cross_entropy

from xllm.config import IGNORE
from xllm.llm.causal import CausalLM

PROMPT, SHARE = 20, 0.5  # tokens of prompt around the speech, and of what is said as an answer: half of the rest
WAYS = ("full", "answers", "sorted", "packed", "compiled")


class Tokenizer:
    """No text is read here."""

    eos_token_id = 0


def batch(lengths: list[int], width: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left-padded embeddings [B, L, D], mask and targets [B, L] of rows of these lengths."""
    size = max(lengths)
    embeds, mask = torch.zeros(len(lengths), size, width), torch.zeros(len(lengths), size, dtype=torch.bool)
    targets = torch.full((len(lengths), size), IGNORE)
    for row, length in enumerate(lengths):
        embeds[row, size - length :], mask[row, size - length :] = torch.randn(length, width), True
        answer = int(SHARE * (length - PROMPT))
        targets[row, size - answer :] = torch.randint(vocabulary, (answer,))
    return embeds, mask, targets


def packed_loss(llm: CausalLM, embeds: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """All rows as one, without padding."""
    row = mask.nonzero()[:, 0]
    places = (mask.long().cumsum(-1) - 1)[mask]
    seen = (row[:, None] == row) & (places[:, None] >= places)
    out = llm.model.base_model(
        inputs_embeds=embeds[mask][None], attention_mask=seen[None, None], position_ids=places[None], use_cache=False
    )
    after = torch.cat([targets[:, 1:], targets.new_full((len(targets), 1), IGNORE)], 1)[mask]
    wanted = after != IGNORE
    sums = [
        torch.utils.checkpoint.checkpoint(llm._answer_sums, h, a, use_reentrant=False)[0]
        for h, a in zip(out.last_hidden_state[0][wanted].split(llm.rows), after[wanted].split(llm.rows), strict=True)
    ]
    return sum(sums) / wanted.sum()


def measure(way: str, given: argparse.Namespace) -> None:
    """Print seconds and megabytes of one way."""
    llm = CausalLM(language_model(given.width, given.layers, given.vocabulary), Tokenizer()).requires_grad_(False)
    torch.manual_seed(1)
    spread = torch.linspace(30, 110, given.batch).round().int().tolist()
    alike = [round(sum(spread) / len(spread))] * len(spread)
    embeds, mask, targets = batch(
        spread if way in ("full", "answers", "packed") else alike, given.width, given.vocabulary
    )
    if way == "compiled":
        llm.model.base_model.compile(dynamic=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(given.rounds + 1):
        leaf = embeds.clone().requires_grad_()
        begun = time.perf_counter()
        if way == "full":
            hidden, _ = llm(leaf, mask)
            logits = llm.head(hidden)
            loss = cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORE)
        elif way == "packed":
            loss = packed_loss(llm, leaf, mask, targets)
        else:
            loss, _ = llm.answer_loss(leaf, mask, targets)
        loss.backward()
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{median(seconds[1:]):.2f} {(peak - before) / 1e3:.0f} {float(loss.detach()):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"width": 896, "layers": 24, "vocabulary": 151936, "batch": 8, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--way", choices=WAYS)
    given = parser.parse_args()
    if given.way:
        measure(given.way, given)
        return
    print(f"{'':>10}{'s':>7}{'times faster':>14}{'MB':>8}{'of full':>9}{'loss':>9}")
    for way in WAYS:
        done = subprocess.run([sys.executable, *sys.argv, "--way", way], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        seconds, memory, loss = map(float, done.stdout.split())
        if way == "full":
            usual, all_memory = seconds, memory
        print(
            f"{way:>10}{seconds:>7.2f}{usual / seconds:>14.1f}{memory:>8.0f}{memory / all_memory:>9.2f}{loss:>9.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
