"""Decoding over embeddings: greedy, with key-value cache, in left-padded batches."""

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


def repeats(ids: list[int]) -> bool:
    """Whether the end of `ids` is one short span, `REPEATS` times over (single tokens: twice as often)."""
    for span in SPANS:
        times = REPEATS * 2 if span == 1 else REPEATS
        tail = ids[-span * times :]
        if len(tail) == span * times and tail == tail[:span] * times:
            return True
    return False


@torch.inference_mode()
def greedy(llm: CausalLM, embeds: Tensor, mask: Tensor, limits: list[int]) -> list[Generation]:
    """Decode answers after left-padded prompts [B, L, D_llm] with `mask` [B, L]; row i ends by `limits[i]` tokens.

    Rows end at the LLM's end mark, at their limit, or when they repeat themselves; finished rows leave the batch.
    """
    ends = llm.end_ids
    done = [Generation([], []) for _ in limits]
    active = [i for i, limit in enumerate(limits) if limit > 0]
    if not active:
        return done
    if len(active) < len(limits):
        embeds, mask = embeds[active], mask[active]
    cache = None
    while True:
        hidden, cache = llm(embeds, mask, cache, use_cache=True)
        best = llm.head(hidden[:, -1]).log_softmax(-1).max(-1)
        going = []
        for row, (i, token, score) in enumerate(zip(active, best.indices.tolist(), best.values.tolist(), strict=True)):
            answer = done[i]
            if token in ends:
                continue
            answer.ids.append(token)
            answer.scores.append(score)
            if len(answer.ids) < limits[i] and not repeats(answer.ids):
                going.append(row)
        if not going:
            return done
        tokens = best.indices
        if len(going) < len(active):
            keep = torch.tensor(going, device=mask.device)
            active, tokens, mask = [active[row] for row in going], tokens[keep], mask[keep]
            cache.batch_select_indices(keep)
        embeds = llm.embed(tokens)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
