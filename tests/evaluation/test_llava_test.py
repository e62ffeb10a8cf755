"""The steps of an evaluation: what is kept is never asked again, what fails costs no other, a run stays one run."""

import json
import os
import random
import subprocess
import sys
import time

import pytest
from llava_data import answers_file, llava_data, rate
from openai_server import OpenAIServer

from xllm.endpoint import Endpoint
from xllm.errors import ConfigError, XLLMError
from xllm.evaluation.judge import score
from xllm.evaluation.llava_files import read_data
from xllm.evaluation.llava_test import Judge, Run

CHILD = """
import os, signal, sys, time
from pathlib import Path
from xllm.endpoint import Endpoint
from xllm.evaluation.llava_files import read_data
from xllm.evaluation.llava_test import Judge, Run

data, answers, url = sys.argv[1:]
for line in sys.stdin:  # a folder and seconds: evaluate there in a process that lives no longer than that
    folder, seconds = Path(line.split()[0]), float(line.split()[1])
    pid = os.fork()
    if pid == 0:
        items, rules = read_data(Path(data))
        with Run(folder, items) as run:
            english = run.english(run.given(Path(answers)).texts, None, "nobody").texts
            found, lost = run.reviews(english, rules, lambda: Endpoint(folder / "replies", url, "key"), Judge("judge"))
        os._exit(len(found) != len(items) or bool(lost))
    if seconds:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def evaluate(data, folder, answers, server, judge=Judge("judge"), **options):
    items, rules = read_data(data)
    options = {"sleep": lambda _: None, **options}
    with Run(folder, items) as run:
        english = run.english(run.given(answers).texts, None, "nobody").texts
        return run.reviews(
            english, rules, lambda: Endpoint(folder / "replies", server.url, "a-long-key", **options), judge
        )


@pytest.fixture
def data(tmp_path):
    return llava_data(tmp_path / "data")


@pytest.fixture
def answers(tmp_path):
    return answers_file(tmp_path / "answers.jsonl")


def test_every_question_is_judged_once_and_again_for_nothing(data, answers, tmp_path):
    with OpenAIServer(rate) as server:
        reviews, failures = evaluate(data, tmp_path / "run", answers, server)
        assert not failures and len(server.requests) == 6
        assert [r.question_id for r in reviews] == [str(i) for i in range(6)], "in the questions' order"
        assert {(s.scores.candidate, s.scores.reference) for s in score(reviews)} == {(8.0, 10.0)}
        for request in server.requests:
            body = request.body
            assert (body["model"], body["temperature"], body["seed"]) == ("judge", 0.0, 0)
            said = body["messages"][1]["content"]
            assert (
                said.index("Answer ") < said.index("It is ")
                and "A red square." in said
                and "square: [0, 0, 1, 1]" in said
            )
        assert evaluate(data, tmp_path / "run", answers, server) == (reviews, {}) and len(server.requests) == 6
        for lost in (tmp_path / "run" / "reviews.jsonl").read_bytes().splitlines()[2:3]:  # a line cut off by a kill
            whole = (tmp_path / "run" / "reviews.jsonl").read_bytes()
            (tmp_path / "run" / "reviews.jsonl").write_bytes(whole.replace(lost, lost[:30]))
        assert evaluate(data, tmp_path / "run", answers, server)[0] == reviews and len(server.requests) == 6


def test_both_orders_and_samples_are_reviews_of_their_own(data, answers, tmp_path):
    judge = Judge("judge", temperature=0.5, seed=7, samples=2, both_orders=True)
    with OpenAIServer(lambda body: rate(body, "4 9")) as server:
        reviews, _ = evaluate(data, tmp_path / "run", answers, server, judge)
    assert len(reviews) == len(server.requests) == 24
    assert {request.body["seed"] for request in server.requests} == {7, 8}
    scores = {(r.swapped, s.scores.candidate) for r, s in zip(reviews, score(reviews), strict=True)}
    assert scores == {(False, 4.0), (True, 9.0)}, "in the other order the second score is ours"


def test_a_server_that_often_fails_loses_nothing(data, answers, tmp_path):
    often = random.Random(0)
    faults = ["500", "429", "cut", "malformed", "empty"]
    with OpenAIServer(rate, fault=lambda n: often.choice(faults) if often.random() < 0.3 else None) as server:
        reviews, failures = evaluate(data, tmp_path / "run", answers, server)
    assert len(reviews) == 6 and not failures


def test_a_server_that_always_fails_is_said_and_what_there_is_stays(data, answers, tmp_path):
    with OpenAIServer(rate, fault=lambda n: "500" if n >= 2 else None) as server:
        reviews, failures = evaluate(data, tmp_path / "run", answers, server, concurrency=1)
        assert len(reviews) == 2 and len(failures) == 4
        assert all("6 tries" in str(error) for error in failures.values())
        server.fault = lambda n: None
        before = len(server.requests)
        reviews, failures = evaluate(data, tmp_path / "run", answers, server)
        assert len(reviews) == 6 and not failures and len(server.requests) == before + 4


def test_a_run_is_of_one_kind(data, answers, tmp_path):
    with OpenAIServer(rate) as server:
        evaluate(data, tmp_path / "run", answers, server)
        with pytest.raises(ConfigError, match="judge was .*judge.*other.*another -o"):
            evaluate(data, tmp_path / "run", answers, server, Judge("other"))
        others = answers_file(tmp_path / "others.jsonl", text="No {}.")
        with pytest.raises(ConfigError, match="model was"):
            evaluate(data, tmp_path / "run", others, server)
        with pytest.raises(ConfigError, match="questions was"):
            evaluate(llava_data(tmp_path / "more", 9), tmp_path / "run", answers, server)
        items, _ = read_data(data)
        with Run(tmp_path / "run", items), pytest.raises(ConfigError, match="another run is writing"):
            Run(tmp_path / "run", items)


def test_only_chinese_is_translated(data, tmp_path):
    class Reverse:
        asked = []

        def translate(self, texts, ids=None):
            self.asked += texts
            yield from ((i, f"English of {text}" if text != "坏" else XLLMError("no")) for i, text in enumerate(texts))

    items, _ = read_data(data)
    translator = Reverse()
    texts = dict(zip(map(str, range(3)), ["It is red.", "红色", "坏"], strict=True))
    with Run(tmp_path / "run", items) as run:
        done = run.english(texts, lambda: translator, "me")
        assert done.texts == {"0": "It is red.", "1": "English of 红色"} and list(done.failures) == ["2"]
        run.english(texts, lambda: translator, "me")
    assert translator.asked == ["红色", "坏", "坏"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("question90.jsonl", None, "data: lacks question90.jsonl; they are in https://github.com/phellonchen/X-LLM"),
        ("question90.jsonl", '{"question_id": 0}', "row 1 needs 'question_id', 'image'"),
        ("qa90_gpt4_answer.jsonl", '{"question_id": 1, "text": "x"}', "question 0: .* no answer"),
        ("caps_boxes_coco2014_val_80.jsonl", "[]", "question 0: .* lacks 0000.jpg"),
        ("rule.json", "{}", "not a file of rules"),
    ],
)
def test_what_is_wrong_with_the_data_is_said(data, file, content, message):
    (data / file).unlink()
    if content is not None:
        (data / file).write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_data(data)


def test_answers_may_be_of_a_part_but_not_of_something_else(data, answers, tmp_path):
    items, _ = read_data(data)
    with Run(tmp_path / "a", items) as run:
        done = run.given(answers_file(tmp_path / "part.jsonl", 4))
        assert len(done.rows) == 4 and sorted(done.failures) == ["4", "5"]
    with Run(tmp_path / "b", items) as run, pytest.raises(ConfigError, match="question 6 is not in this data"):
        run.given(answers_file(tmp_path / "other.jsonl", 7))


def test_a_hundred_kills_cost_no_review_and_no_second_one(tmp_path):
    """SIGKILL at random moments of runs of 90 questions, each then started again until it is done."""
    data, answers = llava_data(tmp_path / "data", 90), answers_file(tmp_path / "answers.jsonl", 90)
    chance, kills, runs, took = random.Random(0), 0, 0, 0.0
    with OpenAIServer(rate, latency=0.003) as server:
        zygote = subprocess.Popen(
            [sys.executable, "-c", CHILD, data, answers, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def live(folder, seconds: float) -> int:
            zygote.stdin.write(f"{folder} {seconds}\n")
            zygote.stdin.flush()
            return int(zygote.stdout.readline())

        while kills < 100:
            folder = tmp_path / f"run{runs}"
            server.requests.clear()
            server.made.clear()
            started = time.monotonic()
            while os.WIFSIGNALED(status := live(folder, chance.uniform(0, took / 4) if kills < 100 else 0)):
                kills += 1
            assert status == 0
            took = took or time.monotonic() - started
            runs += 1
            rows = [json.loads(line) for line in (folder / "reviews.jsonl").read_text().splitlines()]
            assert sorted(int(row["question_id"]) for row in rows) == list(range(90))
            assert len(server.made) == 90 and set(server.made.values()) == {1}, "no question is judged twice"
        zygote.stdin.close()
        assert zygote.wait(30) == 0
    assert runs > 1
