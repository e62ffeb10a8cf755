"""Character error rate, with its parts, its uncertainty, and a comparison of two systems on the same samples.

Reference and hypothesis are compared after `xllm.text.normalize`: width, case, punctuation and spaces do not count;
numbers are left as they were spoken.
"""

import json
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from xllm.errors import ConfigError, ManifestError, XLLMError
from xllm.evaluation.bootstrap import interval
from xllm.manifest import located
from xllm.text import normalize


@dataclass(frozen=True)
class Utterance:
    """What is to be recognised: a file, the text spoken in it as the manifest writes it, and what is seen meanwhile."""

    id: str
    speech: str
    reference: str
    pictures: tuple[str, ...] = ()
    caption: str | None = None


@dataclass(frozen=True)
class Score:
    """One sample: characters as compared, and its errors. `duration` in seconds."""

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
class Run:
    """One engine over a manifest: scores of what worked, messages of what did not by position, and the speed."""

    scores: list[Score]
    failures: dict[int, str]
    real_time_factor: float  # seconds of reading and recognising per second of sound


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


@dataclass(frozen=True)
class Difference:
    """Error rate of one run minus that of another in points, with its 95% interval, over the samples both have."""

    points: float
    low: float
    high: float
    utterances: int


def read_references(manifest: Path) -> tuple[list[Utterance], list[str]]:
    """The samples of a manifest with speech and response, and what is wrong with its other lines.

    Raises ManifestError when the manifest cannot be read or has no lines.
    """
    utterances: list[Utterance] = []
    failures: list[str] = []
    for where, sample in located(manifest):
        if isinstance(sample, ManifestError):
            failures.append(str(sample))
        elif not sample["speech"] or sample["response"] is None:
            failures.append(f"{where}: needs 'speech' and 'response'")
        else:
            pictures = tuple(sample["image"] or ())
            utterances.append(
                Utterance(sample["id"], sample["speech"], sample["response"], pictures, sample["caption"])
            )
    if not utterances and not failures:
        raise ManifestError(f"{manifest}: no samples in this manifest")
    return utterances, failures


def deaf_to_pictures(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The same to be recognised from speech alone (S in the paper's Table 4)."""
    return [replace(u, pictures=(), caption=None) for u in utterances]


def with_wrong_pictures(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Each utterance with the pictures and caption of another, half the list away: what looking must not repair."""
    half = len(utterances) // 2
    others = [*utterances[half:], *utterances[:half]]
    return [
        replace(u, pictures=other.pictures, caption=other.caption) for u, other in zip(utterances, others, strict=True)
    ]


def transcribe_manifest(
    utterances: Sequence[Utterance],
    model,
    engine: str,
    batch_size: int = 8,
    done: Callable[[], None] = lambda: None,
) -> Run:
    """Recognise all utterances with one engine of `model` (an XLLM); `done` is called after each.

    Raises ConfigError when the model lacks the engine.
    """
    from xllm.transcribe import Source, transcribe

    outcomes = []
    started = time.perf_counter()
    sources = [Source(u.id, u.speech, pictures=u.pictures, caption=u.caption) for u in utterances]
    for _, outcome in transcribe(sources, model, engine, batch_size):
        outcomes.append(outcome)
        done()
    wall = time.perf_counter() - started
    scores: list[Score] = []
    failures: dict[int, str] = {}
    for position, (utterance, outcome) in enumerate(zip(utterances, outcomes, strict=True)):
        if isinstance(outcome, XLLMError):
            failures[position] = str(outcome)
        else:
            sure = round(outcome.score, 4)
            scores.append(
                score(utterance.id, utterance.speech, utterance.reference, outcome.text, sure, outcome.duration)
            )
    return Run(scores, failures, round(wall / max(sum(s.duration for s in scores), 1e-9), 4))


def read_scores(path: Path) -> list[Score]:
    """The per-sample file of an earlier run (`Score.as_dict` a line). Raises ConfigError when it is none."""
    try:
        with path.open(encoding="utf-8") as lines:
            return [Score(**{k: v for k, v in json.loads(line).items() if k != "cer"}) for line in lines]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; give the folder of a run with -o") from None
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"{path}: not written by `xllm eval asr -o`; give the folder of such a run") from None


def score(
    sample: str, speech: str, reference: str, hypothesis: str, confidence: float = 1.0, duration: float = 0.0
) -> Score:
    """Count the errors of one hypothesis."""
    import jiwer

    reference, hypothesis = normalize(reference), normalize(hypothesis)
    out = jiwer.process_characters(reference, hypothesis)
    errors = out.substitutions, out.deletions, out.insertions
    return Score(sample, speech, reference, hypothesis, *errors, confidence, duration)


def _interval(errors: np.ndarray, lengths: np.ndarray) -> tuple[float, float]:
    """95% interval of the pooled rate in percent: utterances drawn with replacement."""
    return interval(lambda draw: 100 * errors[draw].sum() / max(1, lengths[draw].sum()), len(errors), 2)


def _rate(errors: np.ndarray, lengths: np.ndarray) -> float:
    return round(100 * float(errors.sum()) / max(1, int(lengths.sum())), 2)


def summarize(scores: Sequence[Score]) -> Summary:
    """Pool samples; the interval is a bootstrap over utterances. Raises ValueError without samples."""
    if not scores:
        raise ValueError("no samples to summarize")
    errors = np.array([s.errors for s in scores])
    lengths = np.array([len(s.reference) for s in scores])
    low, high = _interval(errors, lengths)
    return Summary(
        cer=_rate(errors, lengths),
        low=low,
        high=high,
        substitutions=sum(s.substitutions for s in scores),
        deletions=sum(s.deletions for s in scores),
        insertions=sum(s.insertions for s in scores),
        characters=int(lengths.sum()),
        utterances=len(scores),
        wrong_utterances=round(100 * float((errors > 0).mean()), 2),
    )


def _keyed(scores: Iterable[Score]) -> dict[tuple[str, str, int], Score]:
    """Scores by id, reference and how often these came before: an id may repeat, a reference may have been edited."""
    seen: Counter = Counter()
    keyed = {}
    for s in scores:
        keyed[s.id, s.reference, seen[s.id, s.reference]] = s
        seen[s.id, s.reference] += 1
    return keyed


def difference(a: Sequence[Score], b: Sequence[Score]) -> Difference | None:
    """CER of `b` minus CER of `a` on the samples both have (same id and reference), by a paired bootstrap.

    None when they share no sample.
    """
    other = _keyed(b)
    pairs = [(s, other[key]) for key, s in _keyed(a).items() if key in other]
    if not pairs:
        return None
    gap = np.array([y.errors - x.errors for x, y in pairs])
    lengths = np.array([len(x.reference) for x, _ in pairs])
    return Difference(_rate(gap, lengths), *_interval(gap, lengths), len(pairs))


def worst(scores: Sequence[Score], count: int = 10) -> list[Score]:
    """The samples with most errors by rate, then by number."""
    return sorted((s for s in scores if s.errors), key=lambda s: (-s.cer, -s.errors, s.id))[:count]


def aligned(sample: Score) -> tuple[str, str]:
    """Reference and hypothesis one above the other, column by column: errors in brackets, gaps as underscores."""
    import jiwer

    above, below = "", ""
    for chunk in jiwer.process_characters(sample.reference, sample.hypothesis).alignments[0]:
        a = sample.reference[chunk.ref_start_idx : chunk.ref_end_idx]
        b = sample.hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            above, below = above + a, below + b
        else:
            cells = [(_cell(x, y), _cell(y, x)) for x, y in zip_longest(a, b, fillvalue="")]
            above += f"[{''.join(x for x, _ in cells)}]"
            below += f"[{''.join(y for _, y in cells)}]"
    return above, below


def _cell(character: str, beside: str) -> str:
    """A character, or a gap, as wide on a terminal as the one above or below it."""
    if not character:
        return "＿" if _wide(beside) else "_"
    return character + " " * (_wide(beside) and not _wide(character))


def _wide(character: str) -> bool:
    return character != "" and unicodedata.east_asian_width(character) in "WF"
