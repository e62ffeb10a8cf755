"""What was measured, as the samples of a report: recognition, answers, and a judge's reviews."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from xllm.errors import XLLMError
from xllm.evaluation.answers import Answered
from xllm.evaluation.judge import Case, Judged, Review
from xllm.evaluation.recognition import Run, Utterance
from xllm.evaluation.report import Medium, Sample


def heard_samples(column: str, utterances: Sequence[Utterance], run: Run) -> Iterator[Sample]:
    """Each utterance as one column of the table heard it; one that failed has its error and no score."""
    scores = iter(run.scores)
    for position, utterance in enumerate(utterances):
        media = [*(Medium("image", picture) for picture in utterance.pictures), Medium("speech", utterance.speech)]
        said = {"caption": utterance.caption} if utterance.caption else {}
        if position in run.failures:
            said |= {"reference": utterance.reference, "error": run.failures[position]}
            yield Sample(utterance.id, column, media, said, {"CER %": None})
            continue
        score = next(scores)
        said |= {"reference": score.reference, "hypothesis": score.hypothesis}
        numbers = {"CER %": round(100 * score.cer, 2), "errors": score.errors, "confidence": score.score}
        numbers |= {"seconds": round(score.duration, 2)}
        yield Sample(utterance.id, column, media, said, numbers, score.errors > 0)


def answered_samples(column: str, rows: Sequence[dict], results: Sequence[Answered | XLLMError]) -> Iterator[Sample]:
    """Each question with what was shown, and its answer; one that failed has its error and no score."""
    for row, outcome in zip(rows, results, strict=True):
        media = [Medium("image", path) for path in row["image"] or ()]
        media += [Medium(kind, row[kind]) for kind in ("video", "speech") if row[kind]]
        texts = {"question": row["instruction"]} if row["instruction"] else {}
        texts |= {"right answer": row["response"]}
        if isinstance(outcome, XLLMError):
            yield Sample(row["id"], column, media, texts | {"error": str(outcome)}, {"exact": None})
        else:
            exact = {"exact": int(outcome.right)}
            yield Sample(row["id"], column, media, texts | {"answer": outcome.answer}, exact, not outcome.right)


def judged_samples(
    reviews: Iterable[Review],
    judged: Iterable[Judged],
    cases: Mapping[str, Case] | None = None,
    pictures: Mapping[str, str] | None = None,
) -> Iterator[Sample]:
    """Each review with its scores; `judged` are those of `reviews`, in the same order.

    `cases` (what was judged) and `pictures` (paths) are by question id, as far as they are known. Raises ValueError
    when there are not as many of one as of the other.
    """
    cases, pictures = cases or {}, pictures or {}
    for review, scored in zip(reviews, judged, strict=True):
        name = review.question_id
        media = [Medium("image", str(pictures[name]))] if name in pictures else []
        texts = {}
        if case := cases.get(name):
            texts = {"question": case.question, "our answer": case.candidate, "reference answer": case.reference}
        order = ", reference first" if review.swapped else ""
        again = f", sample {review.sample}" if review.sample else ""
        texts[f"review{order}{again}"] = review.content
        if case:
            texts["what the judge knew of the picture"] = case.context
        numbers = {"our score": None, "reference score": None, "relative %": None}
        if scored.scores:
            ours, theirs = scored.scores.candidate, scored.scores.reference
            numbers = dict(zip(numbers, (ours, theirs, round(100 * ours / theirs, 1)), strict=True))
        yield Sample(name, review.category, media, texts, numbers)
