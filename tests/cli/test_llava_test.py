"""`xllm eval llava-test`: reviews become the paper's table, what has no scores is counted, misuse is said."""

import json

import pytest

REVIEWS = [
    {"question_id": 0, "category": "conv", "content": "8 10\nGood."},
    {"question_id": 1, "category": "conv", "content": "The scores for Assistant 1 and Assistant 2 are 2 and 8."},
    {"question_id": 2, "category": "detail", "content": "6 8 \nShort."},
    {"question_id": 3, "category": "complex", "content": "9, 9\nEqual."},
]


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.json"
    path.write_text(json.dumps(REVIEWS))
    return path


def percents(out: str) -> dict:
    return {name: figure["percent"] for name, figure in json.loads(out)["relative"].items()}


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ((), {"conv": 80.0, "detail": 75.0, "complex": 100.0, "all": 85.2}),
        (("--from-text",), {"conv": 55.6, "detail": 75.0, "complex": 100.0, "all": 71.4}),
        (("--paper-scoring",), {"conv": 77.8, "detail": 75.0, "complex": 100.0, "all": 84.6}),
    ],
)
def test_unparsed_reviews_are_left_out_read_or_counted_as_the_paper_did(xllm, reviews, option, wanted):
    code, out, _ = xllm("eval", "llava-test", "--reviews", reviews, *option, "--json")
    assert code == 0 and percents(out) == wanted
    assert json.loads(out)["unscored"] == ([] if "--from-text" in option else ["1"])


def test_the_table_stands_beside_the_papers(xllm, reviews):
    code, out, err = xllm("eval", "llava-test", "--reviews", reviews)
    lines = out.splitlines()
    assert code == 0 and lines[1].split()[-4:] == ["80.0", "75.0", "100.0", "85.2"]
    assert any(line.split()[-4:] == ["85.4", "83.5", "84.6", "84.5"] for line in lines)
    assert err.strip() == "unscored, left out: 1 of 4 reviews, questions 1"


def test_a_baseline_is_compared_by_question(xllm, reviews, tmp_path):
    other = tmp_path / "other.jsonl"
    rows = [row | {"content": row["content"].replace("6 8", "4 8")} for row in reversed(REVIEWS)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = xllm("eval", "llava-test", "--reviews", reviews, "--baseline", other, "--json")
    gaps = json.loads(out)["minus baseline"]
    assert code == 0 and gaps["detail"]["points"] == 25.0 and gaps["conv"]["points"] == 0.0
    assert gaps["all"]["left_out"] == 1


@pytest.mark.parametrize("content", [None, "{", "[{}]", '[{"question_id": 1, "category": "conv", "content": 3}]'])
def test_files_that_are_no_reviews_are_usage_errors(xllm, tmp_path, content):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    code, out, err = xllm("eval", "llava-test", "--reviews", path)
    assert code == 2 and out == "" and "r.json" in err and len(err.splitlines()) == 1


def test_two_ways_to_count_are_one_too_many(xllm, reviews):
    code, out, err = xllm("eval", "llava-test", "--reviews", reviews, "--from-text", "--paper-scoring")
    assert code == 2 and out == "" and "choose one" in err
