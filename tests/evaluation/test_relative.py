"""Relative scores: the ratio of means, what is unscored, intervals, the comparison of two runs, the paper's figures."""

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from xllm.errors import ConfigError
from xllm.evaluation.judge import Judged, Scores, read_reviews, score
from xllm.evaluation.relative import Difference, difference, summarize

LLAVA_TEST = Path(os.environ.get("XLLM_LLAVA_TEST", Path(__file__).parents[3] / "shared/data/llava_test"))


def rows(*scores, category="conv", start=0):
    """One review per question; None is unscored."""
    return [Judged(str(i), category, s and Scores(*s)) for i, s in enumerate(scores, start=start)]


def figures(summary):
    return {name: relative.percent for name, relative in summary.items()}


def test_the_relative_score_is_the_ratio_of_the_means():
    both = rows((2, 8), (9, 9)) + rows((5, 10), category="detail", start=2)
    summary = summarize(both)
    assert figures(summary) == {"conv": 64.7, "detail": 50.0, "all": 59.3}  # 11/17, 5/10, 16/27; not means of ratios
    assert (summary["conv"].candidate, summary["conv"].reference) == (5.5, 8.5)


def test_what_is_unscored_is_counted_and_is_no_number():
    scored = rows((7, 9), (8, 9))
    one, other = summarize(scored)["all"], summarize(scored + rows(None, None, start=2))["all"]
    assert (other.percent, other.low, other.high, other.candidate) == (one.percent, one.low, one.high, one.candidate)
    assert (one.scored, one.unscored, other.scored, other.unscored, other.unscored_reviews) == (2, 0, 2, 2, 2)
    nothing = summarize(rows(None))["all"]
    assert (nothing.percent, nothing.low, nothing.high, nothing.candidate, nothing.unscored) == (None,) * 4 + (1,)
    assert summarize([])["all"].scored == 0


def test_the_papers_scoring_averages_what_is_unscored_as_minus_one():
    some = summarize(rows((8, 9), (3, 9), None), paper_scoring=True)["all"]
    assert some.percent == 58.8  # (8 + 3 - 1) / (9 + 9 - 1)
    assert (some.low, some.high, some.scored, some.unscored) == (None, None, 2, 1)
    assert summarize(rows((8, 9), None), paper_scoring=True)["all"].percent == 87.5
    assert summarize(rows(None, None), paper_scoring=True)["all"].percent is None  # -1 of -1 would be 100%


def test_both_orders_and_samples_of_a_question_are_averaged_first():
    many = [Judged("0", "conv", Scores(2, 10), swapped, sample) for swapped in (False, True) for sample in range(5)]
    summary = summarize(many + rows((10, 10), start=1))["all"]
    assert (summary.percent, summary.scored) == (60.0, 2)  # 12 of 20, not 30 of 110
    halves = [Judged("0", "conv", Scores(4, 8)), Judged("0", "conv", Scores(8, 8), swapped=True)]
    assert summarize(halves)["all"].percent == 75.0
    half = [halves[0], Judged("0", "conv", None, swapped=True)]
    assert (summarize(half)["all"].percent, summarize(half)["all"].unscored) == (50.0, 0)
    assert summarize(half)["all"].unscored_reviews == 1
    assert summarize(half, paper_scoring=True)["all"].percent == 42.9  # (4 - 1) / (8 - 1)


def test_columns_stand_in_the_papers_order_whatever_comes_first():
    mixed = [Judged(c, c, Scores(1, 2)) for c in ("zebra", "complex", "art", "conv", "detail")]
    assert list(summarize(mixed)) == ["conv", "detail", "complex", "art", "zebra", "all"]


def test_a_review_that_is_there_twice_and_a_question_of_two_categories_are_errors():
    for use in (summarize, lambda r: difference(r, [])):
        with pytest.raises(ConfigError, match=r"question 0 is reviewed twice \(sample 0\)"):
            use(rows((7, 9)) + rows((7, 9)))
        with pytest.raises(ConfigError, match="question 0 must be of one category"):
            use([Judged("0", "conv", None), Judged("0", "detail", None, swapped=True)])
        with pytest.raises(ConfigError, match="none called 'all'"):
            use(rows((7, 9), category="all"))
    with pytest.raises(ConfigError, match="question 0 is of another category in the other run"):
        difference(rows((7, 9)), rows((7, 9), category="detail"))


def drawn(seed, count, quality=7.0):
    """Scores of `count` questions, in which a hard question is hard for everyone."""
    random_ = random.Random(seed)
    hardness = random.Random(0)
    out = []
    for _ in range(count):
        level = quality - 4 * hardness.random()
        out.append((min(10.0, level + random_.random()), 8 + hardness.random()))
    return out


def test_intervals_hold_the_figure_narrow_with_questions_and_do_not_depend_on_the_order_of_lines():
    few, many = summarize(rows(*drawn(1, 20)))["all"], summarize(rows(*drawn(1, 500)))["all"]
    for relative in (few, many):
        assert relative.low < relative.percent < relative.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    shuffled = rows(*drawn(1, 20))
    random.Random(3).shuffle(shuffled)
    assert summarize(shuffled)["all"] == few
    same = summarize(rows(*[(7, 9)] * 30))["all"]
    assert same.low == same.percent == same.high


def test_the_interval_covers_as_often_as_it_says(monkeypatch):
    """Of 100 samples of 40 questions from one population, the interval of about 95 holds the population's figure."""
    monkeypatch.setattr("xllm.evaluation.bootstrap.RESAMPLES", 400)
    population = drawn(5, 4000)
    truth = 100 * sum(c for c, _ in population) / sum(r for _, r in population)
    covered = 0
    for seed in range(100):
        relative = summarize(rows(*random.Random(seed).sample(population, 40)))["all"]
        covered += relative.low <= truth <= relative.high
    assert 87 <= covered <= 99


def test_runs_are_compared_by_question_and_never_by_line():
    a, b = rows(*drawn(1, 60)), rows(*drawn(2, 60, quality=7.4))
    compared = difference(a, b)["all"]
    assert compared.low < compared.points < compared.high and compared.questions == 60
    alone = summarize(a)["all"], summarize(b)["all"]
    assert compared.points == pytest.approx(alone[1].percent - alone[0].percent, abs=0.11)
    assert compared.high - compared.low < 0.7 * (alone[0].high - alone[0].low)  # pairing takes hardness out
    assert compared.low > 0  # and so the better run is seen to be better, though the two intervals overlap
    assert alone[1].low < alone[0].high
    shuffled = list(b)
    random.Random(3).shuffle(shuffled)
    assert difference(a, shuffled)["all"] == compared
    back = difference(b, a)["all"]
    assert (back.points, back.low, back.high) == (-compared.points, -compared.high, -compared.low)


def test_a_comparison_leaves_out_what_one_run_lacks_and_counts_it():
    a = rows((4, 8), None, (4, 8)) + rows((5, 10), category="detail", start=3)
    b = rows((6, 8), (9, 9)) + rows((1, 1), category="complex", start=7)
    compared = difference(a, b)
    assert compared["conv"] == Difference(25.0, 25.0, 25.0, 1, 2)
    assert compared["detail"] == compared["complex"] == Difference(None, None, None, 0, 1)
    assert compared["all"] == Difference(25.0, 25.0, 25.0, 1, 4)
    assert list(compared) == ["conv", "detail", "complex", "all"]
    same = difference(a, a)["all"]
    assert (same.points, same.low, same.high, same.questions, same.left_out) == (0, 0, 0, 3, 1)


@pytest.fixture(scope="module")
def reviews():
    path = LLAVA_TEST / "review.json"
    if not path.is_file():
        pytest.skip("the paper's review.json is not here; set XLLM_LLAVA_TEST to its folder")
    return read_reviews(path)


def test_the_papers_reviews_give_the_papers_figures_to_the_digit(reviews):
    published = {"conv": 85.4, "detail": 83.5, "complex": 84.6, "all": 84.5}
    assert figures(summarize(score(reviews), paper_scoring=True)) == published


def test_the_papers_reviews_give_honest_figures_by_default(reviews):
    summary = summarize(score(reviews))
    assert figures(summary) == {"conv": 85.8, "detail": 83.6, "complex": 84.6, "all": 84.6}
    assert {name: r.unscored for name, r in summary.items()} == {"conv": 6, "detail": 1, "complex": 0, "all": 7}
    assert all(r.low < r.percent < r.high for r in summary.values())


def test_the_papers_reviews_give_the_figures_that_their_text_states(reviews):
    summary = summarize(score(reviews, from_text=True))
    assert figures(summary) == {"conv": 79.2, "detail": 82.2, "complex": 84.6, "all": 82.0}
    assert summary["all"].unscored == 0
    stated = {"0": (3, 8), "31": (3, 8), "33": (9, 9), "36": (3, 9), "39": (2, 9), "69": (2, 8), "84": (8, 9)}
    differ = {x.question_id: y.scores for x, y in zip(score(reviews), score(reviews, True), strict=True) if x != y}
    assert differ == {name: Scores(*pair) for name, pair in stated.items()}


def test_first_lines_and_texts_of_the_papers_reviews_agree_where_both_state_scores(reviews):
    """Thirteen reviews repeat both scores in words: a check that it reads what is meant."""
    without = score([replace(r, content=r.content.partition("\n")[2]) for r in reviews], from_text=True)
    both = [(x.scores, y.scores) for x, y in zip(score(reviews), without, strict=True) if x.scores and y.scores]
    assert len(both) == 13 and all(first == text for first, text in both)
