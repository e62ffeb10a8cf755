"""Character error rate, with its parts, its uncertainty, and a comparison of two systems on the same samples.

Reference and hypothesis are compared after `xllm.text.normalize`: width, case, punctuation and spaces do not count;
numbers are left as they were spoken.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from xllm.text import normalize

RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """One sample: characters as compared, and its errors."""

    id: str
    speech: str
    reference: str
    hypothesis: str
    substitutions: int
    deletions: int
    insertions: int
    score: float
    duration: float

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def cer(self) -> float:
        """Errors over reference characters; an empty reference counts as one character."""
        return self.errors / max(1, len(self.reference))

    def as_dict(self) -> dict:
        """Plain data for the per-sample file."""
        return asdict(self) | {"cer": round(self.cer, 4)}


@dataclass(frozen=True)
class Summary:
    """A set of samples: pooled error rate in percent, its 95% interval, and counts."""

    cer: float
    low: float
    high: float
    substitutions: int
    deletions: int
    insertions: int
    characters: int
    utterances: int
    wrong_utterances: float  # percent with at least one error


def score(
    sample: str, speech: str, reference: str, hypothesis: str, confidence: float = 1.0, duration: float = 0.0
) -> Score:
    """Count the errors of one hypothesis."""
    import jiwer

    reference, hypothesis = normalize(reference), normalize(hypothesis)
    if reference:
        out = jiwer.process_characters(reference, hypothesis)
        errors = out.substitutions, out.deletions, out.insertions
    else:
        errors = 0, 0, len(hypothesis)  # jiwer refuses empty references
    return Score(sample, speech, reference, hypothesis, *errors, confidence, duration)


def _resampled(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return values[draws].sum(axis=1)


def _draws(count: int) -> np.ndarray:
    """Utterances drawn with replacement, [RESAMPLES, count]; fixed, so that reports can be repeated."""
    return np.random.default_rng(0).integers(0, count, (RESAMPLES, count))


def summarize(scores: Sequence[Score]) -> Summary:
    """Pool samples; the interval is a bootstrap over utterances. Raises ValueError without samples."""
    if not scores:
        raise ValueError("no samples to summarize")
    errors = np.array([s.errors for s in scores])
    lengths = np.array([len(s.reference) for s in scores])
    draws = _draws(len(scores))
    rates = 100 * _resampled(errors, draws) / np.maximum(1, _resampled(lengths, draws))
    low, high = np.percentile(rates, [2.5, 97.5])
    return Summary(
        cer=round(100 * float(errors.sum()) / max(1, int(lengths.sum())), 2),
        low=round(float(low), 2),
        high=round(float(high), 2),
        substitutions=sum(s.substitutions for s in scores),
        deletions=sum(s.deletions for s in scores),
        insertions=sum(s.insertions for s in scores),
        characters=int(lengths.sum()),
        utterances=len(scores),
        wrong_utterances=round(100 * float((errors > 0).mean()), 2),
    )


def difference(a: Sequence[Score], b: Sequence[Score]) -> tuple[float, float, float]:
    """CER of `b` minus CER of `a` in points on the samples both have, with its 95% interval (paired bootstrap).

    Raises ValueError when they share no sample.
    """
    other = {s.id: s for s in b}
    pairs = [(s, other[s.id]) for s in a if s.id in other]
    if not pairs:
        raise ValueError("the two runs share no sample")
    lengths = np.array([len(x.reference) for x, _ in pairs])
    gap = np.array([y.errors - x.errors for x, y in pairs])
    draws = _draws(len(pairs))
    rates = 100 * _resampled(gap, draws) / np.maximum(1, _resampled(lengths, draws))
    low, high = np.percentile(rates, [2.5, 97.5])
    return round(100 * float(gap.sum()) / max(1, int(lengths.sum())), 2), round(float(low), 2), round(float(high), 2)


def worst(scores: Sequence[Score], count: int = 10) -> list[Score]:
    """The samples with most errors by rate, then by number."""
    return sorted((s for s in scores if s.errors), key=lambda s: (-s.cer, -s.errors, s.id))[:count]


def aligned(sample: Score) -> tuple[str, str]:
    """Reference and hypothesis one above the other: errors in brackets, gaps as full-width underscores."""
    import jiwer

    if not sample.reference or not sample.hypothesis:
        return sample.reference or "＿", sample.hypothesis or "＿"
    above, below = "", ""
    for chunk in jiwer.process_characters(sample.reference, sample.hypothesis).alignments[0]:
        a = sample.reference[chunk.ref_start_idx : chunk.ref_end_idx]
        b = sample.hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            above, below = above + a, below + b
        else:
            width = max(len(a), len(b))
            above, below = above + f"[{a.ljust(width, '＿')}]", below + f"[{b.ljust(width, '＿')}]"
    return above, below
