"""`xllm eval llava-test`: from pictures to the paper's table; what has no scores is counted, misuse is said."""

import json

import pytest
from llava_data import answers_file, llava_data, rate
from openai_server import OpenAIServer

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
    code, out, _ = xllm("eval", "llava-test", "--reviews", reviews, *option, "--json", "--max-unscored", 0.25)
    assert code == 0 and percents(out) == wanted
    unscored = {} if "--from-text" in option else {"no two scores in front": ["1"]}
    assert json.loads(out)["unscored"] == list(*unscored.values()) and json.loads(out)["why unscored"] == unscored


@pytest.mark.parametrize(("most", "code"), [((), 1), (("--max-unscored", 0.24), 1), (("--max-unscored", 0.25), 0)])
def test_more_unscored_reviews_than_allowed_are_a_failure(xllm, reviews, most, code):
    for form in ((), ("--json",), ("--paper-scoring",)):
        got, out, err = xllm("eval", "llava-test", "--reviews", reviews, *most, *form)
        assert got == code and "85.2" in out or "--paper-scoring" in form
        limit = most[1] if most else 0.1
        assert (f"error: 25% of the reviews are unscored, more than --max-unscored {limit}" in err) == bool(code)
    assert xllm("eval", "llava-test", "--reviews", reviews, *most, "--from-text")[0] == 0


def test_the_table_stands_beside_the_papers(xllm, reviews):
    code, out, err = xllm("eval", "llava-test", "--reviews", reviews, "--max-unscored", 1)
    lines = out.splitlines()
    assert code == 0 and lines[1].split()[-4:] == ["80.0", "75.0", "100.0", "85.2"]
    assert any(line.split()[-4:] == ["85.4", "83.5", "84.6", "84.5"] for line in lines)
    assert err.strip() == "unscored, left out: 1 of 4 reviews: no two scores in front: questions 1"


def test_a_baseline_is_compared_by_question(xllm, reviews, tmp_path):
    other = tmp_path / "other.jsonl"
    rows = [row | {"content": row["content"].replace("6 8", "4 8")} for row in reversed(REVIEWS)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = xllm("eval", "llava-test", "--reviews", reviews, "--baseline", other, "--json", "--max-unscored", 1)
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


@pytest.fixture
def served(monkeypatch):
    """A server that translates and judges, named by the environment."""

    def reply(body):
        if body["messages"][0]["content"].startswith("You translate"):
            return "in English"
        return rate(body, "6 8")

    with OpenAIServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "a-long-key")
        yield server


def evaluating(tmp_path, seeing):
    """The command that lets a random system answer the data in `tmp_path`."""
    return "eval", "llava-test", "--data", tmp_path / "data", "--model", seeing / "seeing", "-o", tmp_path / "run"


def test_a_model_answers_and_a_judge_rates(xllm, seeing, served, tmp_path):
    llava_data(tmp_path / "data", 3)
    run = (*evaluating(tmp_path, seeing), "--max-tokens", 4, "--json")
    code, out, err = xllm(*run, "--until", "answers")
    assert code == 0 and out == "" and not served.requests, err
    answers = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [row["question_id"] for row in answers] == ["0", "1", "2"]
    code, out, err = xllm(*run, "--judge-model", "judge")
    assert code == 0 and percents(out) == dict.fromkeys(("conv", "detail", "complex", "all"), 75.0), err
    before = len(served.requests)
    assert before >= 3 and xllm(*run, "--judge-model", "judge")[:2] == (0, out) and len(served.requests) == before
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [s["numbers"]["our score"] for s in report["samples"]] == [6.0] * 3 and report["samples"][0]["media"]
    assert report["samples"][1]["texts"]["question"] == "Question 1?"
    assert "X-LLM (paper)" in (tmp_path / "run" / "report.md").read_text()
    (tmp_path / "run" / "reviews.jsonl").unlink()  # the replies are kept apart
    assert xllm(*run, "--judge-model", "judge")[:2] == (0, out) and len(served.requests) == before


def test_questions_without_translations_are_translated(xllm, seeing, served, tmp_path):
    llava_data(tmp_path / "data", 3, chinese=False)
    run = (*evaluating(tmp_path, seeing), "--until", "questions")
    assert xllm(*run)[0] == 2
    assert xllm(*run, "--translator", "gpt") == (0, "", "")
    assert len(served.requests) == 3 and "into Chinese" in served.requests[0].body["messages"][0]["content"]


def test_what_is_missing_is_said_and_the_rest_is_scored(xllm, served, tmp_path):
    data, answers = llava_data(tmp_path / "data"), answers_file(tmp_path / "answers.jsonl")
    run = ("eval", "llava-test", "--data", data, "--answers", answers, "-o", tmp_path / "run", "--judge-model", "judge")
    code, out, err = xllm(*run, "--max-calls", 4, "--concurrency", 1)
    assert code == 1 and "4 of 4" in out and "reviews: 2 missing: not asked: the limit of 4 calls" in err
    assert "the same command goes on" in err
    code, out, err = xllm(*run, "--baseline", tmp_path / "run")
    assert code == 0 and "6 of 6" in out and "+0.0" in out and len(served.requests) == 6


def test_pictures_that_are_not_there_cost_their_questions_only(xllm, seeing, served, tmp_path):
    data = llava_data(tmp_path / "data")
    (data / "images" / "0001.jpg").unlink()
    run = (*evaluating(tmp_path, seeing), "--max-tokens", 2, "--judge-model", "judge")
    code, out, err = xllm(*run)
    assert code == 1 and "3 of 3" in out and "3, 4, 5" in err
    assert f"{data / 'images'}: there is neither 0001.jpg nor COCO_val2014_0001.jpg" in err
    code, out, err = xllm(*run, "--images", tmp_path / "nowhere")
    assert code == 2 and "no such folder; --images" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no LLaVA-test here"),
        (
            ("--data", "."),
            "lacks question90.jsonl, qa90_gpt4_answer.jsonl, caps_boxes_coco2014_val_80.jsonl, rule.json",
        ),
        (("--data", ".", "--until", "english"), "github.com/phellonchen/X-LLM"),
        (("--data", ".", "-o", "run", "--judge-model", "j", "--max-cost", "1"), "--prices"),
        (("--data", ".", "-o", "run", "--judge-model", "j", "--model", "m", "--answers", "a"), "choose one"),
        (("--data", ".", "-o", "run", "--judge-model", "j"), ".: lacks question90.jsonl"),
    ],
)
def test_what_is_not_enough_to_go_on_is_a_usage_error(xllm, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = xllm("eval", "llava-test", *options)
    assert code == 2 and out == "" and message in " ".join(err.split()), err


def test_without_a_key_nothing_is_lost(xllm, monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    data, answers = llava_data(tmp_path / "data"), answers_file(tmp_path / "answers.jsonl")
    run = ("--data", data, "--answers", answers, "-o", tmp_path / "run", "--judge-model", "judge")
    code, _, err = xllm("eval", "llava-test", *run)
    assert code == 2 and "export OPENAI_API_KEY" in err
    assert len((tmp_path / "run" / "english.jsonl").read_text().splitlines()) == 6


def test_without_files_it_says_what_they_hold_and_where_they_come_from(xllm, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = xllm("eval", "llava-test")
    assert code == 2 and out == "" and not list(tmp_path.iterdir())
    files = ("question90.jsonl", "qa90_gpt4_answer.jsonl", "caps_boxes_coco2014_val_80.jsonl", "rule.json")
    lines = {line.split()[0]: line for line in err.splitlines()}
    assert all("JSON" in lines[name] for name in (*files, "question90_zh.json"))
    for word in (
        "phellonchen/X-LLM",
        "cocodataset.org",
        "val2014",
        "OPENAI_API_KEY",
        "--reviews",
        "docs/evaluation.md",
    ):
        assert word in err


@pytest.mark.parametrize(("data", "images"), [(".", "images"), ("llava_test", "val2014"), ("llava_test", "../val2014")])
def test_it_runs_without_options_in_a_folder_that_has_the_files(xllm, served, monkeypatch, tmp_path, data, images):
    """The packaged system answers; images lie beside the files or here, under COCO's names or LLaVA's."""
    folder = llava_data(tmp_path / data) if data != "." else llava_data(tmp_path / "x").rename(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here" if data == "." else tmp_path)
    if images != "images":
        (folder / "images").rename(folder / images)
        for path in list((folder / images).iterdir()):
            path.rename(path.with_name(f"COCO_val2014_{path.name}"))
    code, out, err = xllm("eval", "llava-test")
    assert code == 0 and "6 of 6" in out and err == "gpt-4o-mini judges; --judge-model names another\n"
    assert {request.body["model"] for request in served.requests} == {"gpt-4o-mini"}
    run = folder if data == "." else tmp_path
    assert (run / "llava_test_run" / "report.html").is_file()
    sample = json.loads((run / "llava_test_run" / "report.json").read_text())["samples"][0]
    assert sample["media"][0]["path"].endswith("0000.jpg")


def test_without_images_it_says_where_it_looked_before_anything_is_made(xllm, served, monkeypatch, tmp_path):
    data = llava_data(tmp_path / "llava_test", chinese=False)
    (data / "images").rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    code, out, err = xllm("eval", "llava-test", "-q")
    assert code == 2 and out == "" and "llava_test/val2014" in err and "cocodataset.org" in err
    assert len(err.splitlines()) == 1 and not served.requests


def test_what_the_judge_did_not_take_is_said_once_and_stands_in_the_report(xllm, served, tmp_path):
    served.refuse = lambda body: (
        (400, {"error": {"message": "Unsupported parameter: seed"}}) if "seed" in body else None
    )
    data, answers = llava_data(tmp_path / "data"), answers_file(tmp_path / "answers.jsonl")
    run = ("eval", "llava-test", "--data", data, "--answers", answers, "-o", tmp_path / "run", "--judge-model", "judge")
    for warnings in (1, 0):  # the second time nothing is asked
        code, out, err = xllm(*run)
        assert code == 0 and "6 of 6" in out and err.count("warning: ") == warnings
        settings = json.loads((tmp_path / "run" / "report.json").read_text())["settings"]
        assert settings["run"]["not sent to the judge as asked"] == ["seed"]


def test_help_names_the_defaults(xllm):
    code, out, _ = xllm("eval", "llava-test", "--help")
    words = " ".join(out.replace("│", " ").split())
    assert code == 0
    for default in ("(this one, or llava_test)", "(llava_test_run)", "(tiny)", "(gpt-4o-mini)", "[default: 0.1]"):
        assert default in words
