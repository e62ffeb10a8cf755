"""Scores of a candidate relative to a reference, over questions: the paper's Table 1, with its uncertainty.

A relative score is 100 x mean(candidate) / mean(reference), a ratio of means (LLaVA's and the paper's arithmetic).
Rows are joined by question id. What is unscored is counted beside the figure and is no part of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xllm.errors import ConfigError
from xllm.evaluation.bootstrap import interval
from xllm.evaluation.judge import Judged
from xllm.evaluation.scores import Scores

ALL = "all"
ORDER = ("conv", "detail", "complex")  # of the paper's columns; other categories follow by name
UNPARSED = Scores(-1, -1)  # what the paper's arithmetic, taken over from LLaVA's script, averages in


@dataclass(frozen=True)
class Relative:
    """A set of questions: the relative score in percent, its 95% interval, the two mean scores, and counts.

    The figures are None when nothing was scored; the interval also under the paper's scoring, where -1 is no
    measurement.
    """

    percent: float | None
    low: float | None
    high: float | None
    candidate: float | None
    reference: float | None
    scored: int
    unscored: int
    unscored_reviews: int


@dataclass(frozen=True)
class Difference:
    """Relative score of one run minus that of another in points, with its 95% interval, over what both scored.

    `left_out` counts the questions that only one has, or scored. The figures are None when they share none.
    """

    points: float | None
    low: float | None
    high: float | None
    questions: int
    left_out: int


@dataclass(frozen=True)
class _Question:
    category: str
    scores: tuple[float, float] | None  # means over the reviews that have scores
    unscored_reviews: int


def summarize(rows: Iterable[Judged], paper_scoring: bool = False) -> dict[str, Relative]:
    """The relative score of each category, and of `all` questions.

    Reviews of one question (both orders, several samples) are averaged first. The interval is a bootstrap over
    questions. `paper_scoring` averages an unscored review as (-1, -1). Raises ConfigError when a review is there twice
    or a question is in two categories.
    """
    questions = _questions(rows, paper_scoring)
    return {name: _relative(part, paper_scoring) for name, part in _by_category(questions).items()}


def difference(a: Iterable[Judged], b: Iterable[Judged]) -> dict[str, Difference]:
    """Relative score of `b` minus that of `a`, for each category and over `all`, by a paired bootstrap over questions.

    Raises ConfigError as `summarize`, and when a question is of another category in the other run.
    """
    one, other = _questions(a), _questions(b)
    for name in one.keys() & other.keys():
        if one[name].category != other[name].category:
            raise ConfigError(f"question {name} is of another category in the other run; compare runs of one data set")
    return {name: _difference(part, one, other) for name, part in _by_category(one | other).items()}


def _questions(rows: Iterable[Judged], paper_scoring: bool = False) -> dict[str, _Question]:
    reviews: dict[str, dict[tuple[bool, int], Judged]] = {}
    for row in rows:
        same = reviews.setdefault(row.question_id, {})
        if (row.swapped, row.sample) in same:
            raise ConfigError(f"question {row.question_id} is reviewed twice (sample {row.sample}); keep one of them")
        same[row.swapped, row.sample] = row
    # in the order of the ids: results are written as they come, and the draws of the bootstrap must not depend on that
    return {name: _question(name, list(same.values()), paper_scoring) for name, same in sorted(reviews.items())}


def _question(name: str, rows: list[Judged], paper_scoring: bool) -> _Question:
    category = rows[0].category
    if category == ALL or any(row.category != category for row in rows):
        raise ConfigError(f"question {name} must be of one category, and of none called '{ALL}'")
    scores = [row.scores for row in rows if row.scores]
    unscored = len(rows) - len(scores)
    counted = scores + [UNPARSED] * unscored if paper_scoring else scores
    means = np.mean([(s.candidate, s.reference) for s in counted], axis=0) if counted else None
    return _Question(category, None if means is None else (means[0], means[1]), unscored)


def _by_category(questions: dict[str, _Question]) -> dict[str, dict[str, _Question]]:
    names = {question.category for question in questions.values()}
    order = [name for name in ORDER if name in names] + sorted(names.difference(ORDER))
    parts = {name: {i: q for i, q in questions.items() if q.category == name} for name in order}
    return parts | {ALL: questions}


def _table(questions: Iterable[_Question]) -> np.ndarray:
    """Scores [questions, 2] of those that have some."""
    return np.array([q.scores for q in questions if q.scores], float).reshape(-1, 2)


def _percent(table: np.ndarray) -> float:
    candidate, reference = table.sum(0)
    return float(100 * candidate / reference)


def _relative(questions: dict[str, _Question], paper_scoring: bool) -> Relative:
    table = _table(questions.values())
    scored = sum(q.scores is not None and not (paper_scoring and q.unscored_reviews) for q in questions.values())
    counts = scored, len(questions) - scored, sum(q.unscored_reviews for q in questions.values())
    if table.sum(0)[1] <= 0:  # no rows, or too many that count as -1
        return Relative(None, None, None, None, None, *counts)
    around = (None, None) if paper_scoring else interval(lambda draw: _percent(table[draw]), len(table), 1)
    candidate, reference = (round(float(mean), 2) for mean in table.mean(0))
    return Relative(round(_percent(table), 1), *around, candidate, reference, *counts)


def _difference(part: dict[str, _Question], one: dict[str, _Question], other: dict[str, _Question]) -> Difference:
    both = [i for i in part if i in one and i in other and one[i].scores and other[i].scores]
    if not both:
        return Difference(None, None, None, 0, len(part))
    a, b = (_table(run[i] for i in both) for run in (one, other))
    points = round(_percent(b) - _percent(a), 1)
    around = interval(lambda draw: _percent(b[draw]) - _percent(a[draw]), len(both), 1)
    return Difference(points, *around, len(both), len(part) - len(both))
