"""Decoding over embeddings: greedy or drawn, with key-value cache, in left-padded batches, a token at a time."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from xllm.llm.causal import CausalLM

REPEATS = 4  # the same span this many times in a row is a loop, not speech
SPANS = (1, 2, 3, 4)  # span lengths, in tokens, that the guard looks for


class Generation(NamedTuple):
    """Answer ids without the end mark, and the log-probability of each."""

    ids: list[int]
    scores: list[float]


class Sampling(NamedTuple):
    """How tokens are drawn; a temperature of 0 takes the likeliest. `top_k` 0 and `top_p` 1 leave all tokens in."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None


GREEDY = Sampling()


def repeats(ids: list[int]) -> bool:
    """Whether the end of `ids` is one short span, `REPEATS` times over (single tokens: twice as often)."""
    for span in SPANS:
        times = REPEATS * 2 if span == 1 else REPEATS
        tail = ids[-span * times :]
        if len(tail) == span * times and tail == tail[:span] * times:
            return True
    return False


def choose(
    logits: Tensor, sampling: Sampling = GREEDY, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Next tokens [...] from logits [..., V], and their log-probabilities; only [B, V] can be drawn from."""
    if sampling.temperature == 0.0:
        best, tokens = logits.max(-1)
        return tokens, best - logits.logsumexp(-1)
    log = logits.log_softmax(-1)
    kept, tokens = (log / sampling.temperature).log_softmax(-1).sort(dim=-1, descending=True)
    likelier = kept.exp().cumsum(-1) - kept.exp()  # probability of all tokens before this one
    out = likelier >= sampling.top_p
    if sampling.top_k:
        out[:, sampling.top_k :] = True
    out[:, 0] = False
    drawn = kept.masked_fill(out, float("-inf")).softmax(-1).cpu().multinomial(1, generator=generator)
    tokens = tokens.gather(1, drawn.to(tokens.device))
    return tokens[:, 0], log.gather(1, tokens)[:, 0]


@torch.inference_mode()
def steps(
    llm: CausalLM, embeds: Tensor, mask: Tensor, limits: Sequence[int], sampling: Sampling = GREEDY
) -> Iterator[dict[int, tuple[int, float]]]:
    """Decode after left-padded prompts [B, L, D_llm] with `mask` [B, L]; row i ends by `limits[i]` tokens.

    Yields, for each step, the token of every row still going and its log-probability. Rows end at the LLM's end mark,
    at their limit, or when they repeat themselves; finished rows leave the batch.
    """
    ends = llm.end_ids
    active = [i for i, limit in enumerate(limits) if limit > 0]
    if len(active) < len(limits):
        embeds, mask = embeds[active], mask[active]
    generator = None
    if sampling.temperature:
        generator = torch.Generator()
        generator.seed() if sampling.seed is None else generator.manual_seed(sampling.seed)
    written: dict[int, list[int]] = {i: [] for i in active}
    cache = None
    while active:
        hidden, cache = llm(embeds, mask, cache, use_cache=True)
        tokens, scores = choose(llm.head(hidden[:, -1]), sampling, generator)
        step, going = {}, []
        for row, (i, token, score) in enumerate(zip(active, tokens.tolist(), scores.tolist(), strict=True)):
            if token in ends:
                continue
            step[i] = (token, score)
            written[i].append(token)
            if len(written[i]) < limits[i] and not repeats(written[i]):
                going.append(row)
        if step:
            yield step
        if going and len(going) < len(active):
            keep = torch.tensor(going)  # on the CPU, and so for layers on any device
            tokens, mask = tokens[keep], mask[keep]
            cache.batch_select_indices(keep)
        active = [active[row] for row in going]
        embeds = llm.embed(tokens)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)


def generate(
    llm: CausalLM, embeds: Tensor, mask: Tensor, limits: Sequence[int], sampling: Sampling = GREEDY
) -> list[Generation]:
    """All of `steps`, by row."""
    done = [Generation([], []) for _ in limits]
    for step in steps(llm, embeds, mask, limits, sampling):
        for row, (token, score) in step.items():
            done[row].ids.append(token)
            done[row].scores.append(score)
    return done
