"""Draft and verify: greedy answers in a few passes, from a guess at the whole answer.

A recogniser has heard the sentence before the LLM writes it. Its text is put behind the prompt, one pass says what the
LLM would have written at every place, and all tokens up to the first disagreement are as greedy search has them, the
next one, too. The rest of the draft is aligned to what stands there now, and verified again. In float32 the answer is
that of `generate`, token for token, whatever the draft; in half precision a pass over many tokens rounds differently
from a pass over one.

Tokens that were refused stay in the key-value cache and are masked, so that any cache of any model will do; they go
when other rows join the batch. They take room in the window of layers that see only the latest tokens (Gemma's,
Cohere's): where prompt, answer and refused tokens outgrow it, the text may differ from that of `generate`.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from xllm.generation import Generation, choose, repeats
from xllm.llm.caches import join, joinable
from xllm.llm.causal import CausalLM
from xllm.pace import Pace

PROBE = 2  # tokens of each draft that are looked at even if drafts are switched off: they may become better
FAILURES = 4  # passes in a row that look at a draft and accept nothing of it; it is given up then

Build = Callable[[Sequence[int]], tuple[Tensor, Tensor]]  # left-padded prompts [B, L, D_llm], and their mask [B, L]


class Verified(NamedTuple):
    """Answers as of `generate`, and how many passes of the LLM each of them took."""

    answers: list[Generation]
    passes: list[int]


class _Row:
    """One answer in the making: what is written, what is guessed to come, and whether it goes on."""

    def __init__(self, draft: Sequence[int], limit: int, ends: set[int]):
        self.draft, self.limit, self.ends = list(draft), limit, ends
        self.answer = Generation([], [])
        self.passes = self.failures = self.reached = 0  # `reached`: tokens of the draft that are accounted for
        self.candidates = self.draft[: limit - 1]
        self.going = limit > 0

    def take(self, tokens: list[int], scores: list[float]) -> int:
        """Read the LLM's choice at each place of the candidates and after; returns how many candidates stand."""
        self.passes += 1
        accepted = 0
        for token, score in zip(tokens, scores, strict=True):
            if token in self.ends:
                self.going = False
                break
            self.answer.ids.append(token)
            self.answer.scores.append(score)
            self.going = len(self.answer.ids) < self.limit and not repeats(self.answer.ids)
            if not self.going or accepted == len(self.candidates) or token != self.candidates[accepted]:
                break
            accepted += 1
        if self.going:
            self._guess(accepted)
        return accepted

    def _guess(self, accepted: int) -> None:
        """What comes after the last token, which no candidate was."""
        self.failures = 0 if accepted else self.failures + bool(self.candidates)
        left = self.limit - len(self.answer.ids) - 1
        if self.failures >= FAILURES:
            self.candidates = []
            return
        self.reached = continue_at(self.draft, self.answer.ids, self.reached + accepted)
        self.candidates = self.draft[self.reached :][:left]


def continue_at(draft: Sequence[int], written: Sequence[int], expected: int) -> int:
    """How many tokens of a draft the written ones stand for: where their edit distance is least.

    Of equals one at whose end both agree is taken, then the one nearest to a substitution at `expected`.
    """
    row = list(range(len(draft) + 1))
    for number, token in enumerate(written, start=1):
        before, row = row, [number]
        for place, guess in enumerate(draft):
            row.append(min(before[place] + (token != guess), before[place + 1] + 1, row[place] + 1))
    last = written[-1]
    return min(
        range(len(row)),
        key=lambda place: (row[place], not (place and draft[place - 1] == last), abs(place - expected - 1)),
    )


class _Batch:
    """Rows at work together: their key-value cache, which of it is real, and what the LLM is to read next."""

    def __init__(self, llm: CausalLM, embeds: Tensor, mask: Tensor, rows: list[_Row]):
        self.llm, self.embeds, self.mask, self.rows = llm, embeds, mask, rows
        self.cache = None

    def step(self, pace: Pace | None) -> None:
        """One pass; rows that are done leave."""
        begun, first, rows, mask = time.perf_counter(), self.cache is None, self.rows, self.mask
        if pace:
            most = pace.width(len(rows), max(len(row.candidates) for row in rows))
            for row in rows:
                del row.candidates[max(most, PROBE if first else 0) :]
        sizes = [len(row.candidates) + 1 for row in rows]
        width = max(sizes) - 1
        guesses, real = _padded([row.candidates for row in rows], mask.device)
        embeds = torch.cat([self.embeds, self.llm.embed(guesses).to(self.embeds.dtype)], dim=1)
        mask = torch.cat([mask, real], dim=1)
        hidden, self.cache = self.llm(embeds, mask, self.cache, use_cache=True)
        tokens, scores = map(iter, _choices(self.llm, hidden[:, hidden.shape[1] - width - 1 :], real))
        if pace and not first:  # which reads the prompt, too
            pace.time(len(rows), width, time.perf_counter() - begun)
        kept = []
        for number, (row, size) in enumerate(zip(rows, sizes, strict=True)):
            accepted = row.take(list(islice(tokens, size)), list(islice(scores, size)))
            mask[number, mask.shape[1] - width + accepted :] = False
            if row.going:
                kept.append(number)
            if pace:
                pace.count(accepted, min(accepted + 1, size - 1))
        self._keep(kept, mask)

    def _keep(self, kept: list[int], mask: Tensor) -> None:
        """These rows go on, each with the token that it wrote last."""
        if kept and len(kept) < len(self.rows):
            keep = torch.tensor(kept)  # on the CPU, and so for layers on any device
            mask = mask[keep]
            self.cache.batch_select_indices(keep)
        self.rows = [self.rows[number] for number in kept]
        if kept:
            self.embeds = self.llm.embed([row.answer.ids[-1] for row in self.rows])[:, None]
            self.mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)

    def join(self, other: "_Batch") -> None:
        """Take in the rows of another batch; both have been through a pass."""
        if other.rows:
            mask = join(self.cache, self.mask[:, :-1], other.cache, other.mask[:, :-1])
            self.mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            self.embeds, self.rows = torch.cat([self.embeds, other.embeds]), self.rows + other.rows


@torch.inference_mode()
def verify(
    llm: CausalLM,
    build: Build,
    limits: Sequence[int],
    drafts: Sequence[Sequence[int]],
    size: int = 8,
    pace: Pace | None = None,
) -> Verified:
    """Answers of at most `limits[i]` tokens after prompts that `build` makes from row numbers when they are needed.

    `drafts` are guesses at the answers' token ids: good, bad, empty or too long. At most `size` rows are at work at a
    time, and as soon as half of them are done others begin. With `pace` no more of a draft is looked at in a pass than
    pays; without, all.
    """
    rows = [_Row(draft, limit, llm.end_ids) for draft, limit in zip(drafts, limits, strict=True)]
    waiting = deque(number for number, row in enumerate(rows) if row.going)
    batch: _Batch | None = None
    while waiting or (batch and batch.rows):
        at_work = len(batch.rows) if batch else 0
        if waiting and (not at_work or (2 * at_work <= size and joinable(batch.cache))):
            chosen = [waiting.popleft() for _ in range(min(size - at_work, len(waiting)))]
            fresh = _Batch(llm, *build(chosen), [rows[number] for number in chosen])
            fresh.step(pace)
            if at_work:
                batch.join(fresh)
            else:
                batch = fresh
        else:
            batch.step(pace)
    return Verified([row.answer for row in rows], [row.passes for row in rows])


def _choices(llm: CausalLM, hidden: Tensor, real: Tensor) -> tuple[list[int], list[float]]:
    """The likeliest token after each row's last token and `real` [B, K] candidates, from `hidden` [B, K + 1, D].

    Row after row, with log-probabilities.
    """
    wanted = torch.nn.functional.pad(real, (1, 0), value=True)
    chosen = [choose(llm.head(part)) for part in hidden[wanted].split(llm.rows)]
    return torch.cat([tokens for tokens, _ in chosen]).tolist(), torch.cat([scores for _, scores in chosen]).tolist()


def _padded(candidates: Sequence[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Candidates [B, K] padded on the right, and which of them are real."""
    width = max(map(len, candidates))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in candidates], dtype=torch.long, device=device)
    lengths = torch.tensor([len(row) for row in candidates], device=device)
    return ids, torch.arange(width, device=device) < lengths[:, None]
