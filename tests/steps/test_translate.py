"""Texts of a manifest translated: every key, every chunk its own, full batches, reasons for what could not be."""

import json

import pytest
from openai_server import OpenAIServer
from small_models import small_mbart
from transformers import MBartForConditionalGeneration

from xllm.errors import ConfigError, Unavailable
from xllm.mbart import ByMBart
from xllm.steps import run as running
from xllm.steps.run import run
from xllm.steps.translate import Translate

TEXTS = ["天地人。", "你是一个大人", "abc", "我", "他是我。我是他。", "大小", "gfe dc ba", "人人人"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_mbart(tmp_path_factory.mktemp("models") / "mbart")


@pytest.fixture
def calls(monkeypatch):
    """The number of sentences in each batch from now on."""
    sizes, generate = [], MBartForConditionalGeneration.generate

    def counted(self, **inputs):
        sizes.append(len(inputs["input_ids"]))
        return generate(self, **inputs)

    monkeypatch.setattr(MBartForConditionalGeneration, "generate", counted)
    return sizes


def rows(count=40):
    return [{"id": str(n), "response": TEXTS[n % 8] + "天地人你我他"[n % 6], "image": "a.png"} for n in range(count)]


def alone(model, text):
    return dict(ByMBart("zh", "en", None, model).translate([text]))[0]


def test_every_key_is_translated_and_nothing_else(model):
    row = {
        "id": "我",
        "image": "我.png",
        "caption": "天地人。",
        "response": "大小",
        "answer": "",
        "history": [{"instruction": "我", "response": ""}],
        "source": "我",
    }
    (made,) = Translate(model=str(model), source="zh", target="en")([row])
    expected = {"caption": "天地人。", "response": "大小"}
    assert made == row | {key: alone(model, text) for key, text in expected.items()} | {
        "history": [{"instruction": alone(model, "我"), "response": ""}]
    }
    (some,) = Translate(model=str(model), source="zh", target="en", keys=("caption",))([row])
    assert some == row | {"caption": made["caption"]}


def test_batches_are_full_and_change_nothing(model, calls, tmp_path):
    by_size = {}
    for size in (1, 7, 64):
        calls.clear()
        by_size[size] = Translate(model=str(model), source="zh", target="en", batch_size=size)(rows())
        different = len({row["response"] for row in rows()})
        assert sum(calls) == different and len(calls) == -(-different // size), "equal texts once, and full batches"
    assert by_size[1] == by_size[7] == by_size[64]
    for chunk in (5, 40):
        step = Translate(model=str(model), source="zh", target="en")
        run(rows, tmp_path / f"{chunk}.jsonl", {}, step, chunk=chunk)
    assert (tmp_path / "5.jsonl").read_bytes() == (tmp_path / "40.jsonl").read_bytes()


def test_what_cannot_be_translated_fails_alone(model, tmp_path):
    long = {"id": "long", "response": "天地人你我" * 9}
    report = run(
        lambda: [*rows(3), long], tmp_path / "x.jsonl", {}, Translate(model=str(model), source="zh", target="en")
    )
    assert report.failed == {"not translated": 1} and report.kept == 3
    dropped = json.loads((tmp_path / "x.dropped.jsonl").read_text())
    assert dropped["id"] == "long" and "a sentence of" in dropped["detail"]


def test_a_file_of_translations(tmp_path):
    (tmp_path / "given.json").write_text(json.dumps({"a dog": "一只狗"}))
    step = Translate(model=str(tmp_path / "given.json"))
    assert step([{"id": "1", "response": "a dog"}, {"id": "2"}]) == [{"id": "1", "response": "一只狗"}, {"id": "2"}]


def test_a_chat_model_keeps_its_replies(tmp_path, monkeypatch):
    def reply(body):
        return "译文" if "a dog" in str(body) else ""

    monkeypatch.setenv("OPENAI_API_KEY", "a-long-key")
    with OpenAIServer(reply) as server:
        step = Translate(model="gpt", cache=tmp_path / "replies", base_url=server.url)
        for _ in range(2):
            assert step([{"id": "1", "response": "a dog"}]) == [{"id": "1", "response": "译文"}]
        assert len(server.requests) == 1
        with pytest.raises(ConfigError, match="cache"):
            Translate(model="gpt", base_url=server.url)([{"id": "1", "response": "a dog"}])


def test_a_chat_model_that_goes_away_stops_the_run_and_loses_nothing(tmp_path, monkeypatch):
    """What it will not translate fails alone; when it is gone, rows are not dropped for it."""
    monkeypatch.setenv("OPENAI_API_KEY", "a-long-key")
    monkeypatch.setattr(running, "COMMIT", 0.0)
    source = lambda: [{"id": str(n), "response": f"text {n}"} for n in range(30)]  # noqa: E731
    with OpenAIServer(lambda body: "译文") as server:
        server.fault = lambda n: "401" if n >= 14 else None
        step = Translate(model="gpt", cache=tmp_path / "replies", base_url=server.url)
        with pytest.raises(Unavailable):
            run(source, tmp_path / "x.jsonl", {}, step, chunk=10)
        assert not (tmp_path / "x.jsonl").exists()
        server.fault = lambda n: None
        step = Translate(model="gpt", cache=tmp_path / "replies", base_url=server.url)
        assert run(source, tmp_path / "x.jsonl", {}, step, chunk=10).kept == 30


def test_no_such_model(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Translate(model=str(tmp_path / "empty"))([{"id": "1", "response": "a"}])
