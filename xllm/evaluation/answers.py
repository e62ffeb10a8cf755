"""Questions with one right answer: the share answered exactly, with its interval, also with the wrong picture shown.

Answer and reference, or another text that the row accepts, are compared after `xllm.text.normalize`. With the pictures
swapped, a system that looks falls to chance; one that guesses from the question does not.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from xllm.chat import answer_rows
from xllm.errors import ManifestError, XLLMError
from xllm.generation import GREEDY
from xllm.manifest import samples
from xllm.modalities import MODALITIES
from xllm.text import normalize

SHOWN = tuple(name for name in MODALITIES if name != "speech")
NORMAL = 1.96  # of a 95% interval


@dataclass(frozen=True)
class Answered:
    """One question: what was asked, what is right and what was answered."""

    id: str
    instruction: str
    reference: str
    answer: str
    accept: Sequence[str] = ()  # other texts that are right

    @property
    def right(self) -> bool:
        return normalize(self.answer) in map(normalize, (self.reference, *self.accept))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the per-sample file."""
        return asdict(self) | {"right": self.right}


@dataclass(frozen=True)
class Accuracy:
    """Percent answered exactly, with its 95% interval, of `questions`."""

    percent: float
    low: float
    high: float
    questions: int


def read_questions(manifest: Path, limit: int | None = None, seed: int = 0) -> tuple[list[dict], list[ManifestError]]:
    """Rows with a response, or `limit` of them drawn by `seed`, and what is wrong with other lines.

    Raises ManifestError, also when there are none.
    """
    found = list(samples(manifest))
    broken = [error for error in found if isinstance(error, ManifestError)]
    rows = [row for row in found if not isinstance(row, ManifestError) and row["response"]]
    if not rows:
        raise broken[0] if broken else ManifestError(f"{manifest}: no row has a 'response' to compare with")
    return rows if limit is None or limit >= len(rows) else random.Random(seed).sample(rows, limit), broken


def swapped(rows: Sequence[dict]) -> list[dict]:
    """Each question with what is shown in another one, half the list away, of another answer where there is one."""
    half, out = len(rows) // 2, []
    for i, row in enumerate(rows):
        others = (rows[(i + half + step) % len(rows)] for step in range(len(rows)))
        right = {row["response"], *(row.get("accept") or ())}
        other = next((o for o in others if o["response"] not in right), row)
        out.append(row | {name: other[name] for name in SHOWN})
    return out


def answers(
    model, rows: Sequence[dict], batch_size: int = 8, max_tokens: int = 32, done: Callable[[], None] = lambda: None
) -> Iterator[Answered | XLLMError]:
    """The greedy answer to every row, in order, or why there is none; `model` is an XLLM."""
    for row, outcome in zip(rows, answer_rows(model, rows, GREEDY, max_tokens, batch_size), strict=True):
        done()
        if isinstance(outcome, XLLMError):
            yield type(outcome)(f"{row['id']}: {outcome}")
        else:
            yield Answered(row["id"], row["instruction"] or "", row["response"], outcome, row.get("accept") or ())


def accuracy(results: Sequence[Answered]) -> Accuracy:
    """Share of right answers with Wilson's interval. Raises ValueError without results."""
    if not results:
        raise ValueError("no answers to count")
    n, share = len(results), sum(result.right for result in results) / len(results)
    middle = share + NORMAL**2 / (2 * n)
    around = NORMAL * sqrt(share * (1 - share) / n + NORMAL**2 / (4 * n * n))
    low, high = ((middle + sign * around) / (1 + NORMAL**2 / n) for sign in (-1, 1))
    return Accuracy(*(round(100 * x, 1) for x in (share, max(0.0, low), min(1.0, high))), n)
