"""The chat client against a real server on this machine: nothing lost, nothing asked twice, no limit passed."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from email.utils import formatdate
from itertools import count
from time import time

import pytest
from openai_server import TOKENS, OpenAIServer

from xllm import text_cache
from xllm.endpoint import Chat, Endpoint
from xllm.errors import ConfigError, XLLMError

KEY = "sk-not-for-anybodys-eyes"
CHILD = """
import sys
from xllm.endpoint import Chat, Endpoint

url, cache, count, concurrency = sys.argv[1:]
chats = [Chat("judge", (("user", f"question {i}"),)) for i in range(int(count))]
endpoint = Endpoint(cache, url, concurrency=int(concurrency))
replies = dict(endpoint.ask(chats))
assert all(replies[i] == f"reply to question {i}" for i in range(int(count))), replies
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OPENAI_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def chats(number_of, **more):
    return [Chat("judge", (("system", "be kind"), ("user", f"question {i}")), **more) for i in range(number_of)]


def connect(server, tmp_path, **more):
    return Endpoint(tmp_path, server.url, **({"sleep": lambda seconds: None} | more))


def child(server, tmp_path, questions, concurrency):
    return subprocess.Popen([sys.executable, "-c", CHILD, server.url, tmp_path, str(questions), str(concurrency)])


def wait_for_workers():
    for thread in threading.enumerate():
        if thread.name == "xllm-endpoint":
            thread.join(60)


def kept(tmp_path):
    return {path.stem for path in tmp_path.rglob("*.json")}


def test_every_request_gets_its_reply_once(tmp_path):
    with OpenAIServer() as server:
        first = connect(server, tmp_path)
        asked = [*chats(5), *chats(5), *chats(5, number=1)]
        replies = list(first.ask(asked))
        assert sorted(index for index, _ in replies) == list(range(15))
        assert all(text == f"reply to question {index % 5}" for index, text in replies)
        assert (first.calls, first.cached, len(server.requests)) == (10, 0, 10)
        again = connect(server, tmp_path)
        assert sorted(again.ask(asked)) == sorted(replies) and (again.calls, again.cached) == (0, 10)
        assert list(again.ask([])) == [] and len(server.requests) == 10
        elsewhere = Endpoint(tmp_path, server.url.replace("127.0.0.1", "localhost"))  # another server for all we know
        assert len(list(elsewhere.ask(chats(5)))) == elsewhere.calls == 5


def test_what_is_sent(tmp_path, monkeypatch):
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        full = Chat("judge", (("system", "s"), ("user", "u")), temperature=0.5, seed=7, max_tokens=9, number=2)
        bare = Chat("judge", (("user", "v"),), temperature=None)
        assert len(list(Endpoint(tmp_path, concurrency=1).ask([full, bare]))) == 2
        sent, alone = server.requests
    assert sent.body == {
        "model": "judge",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "temperature": 0.5,
        "seed": 9,
        "max_tokens": 9,
    }
    assert alone.body.keys() == {"model", "messages"}
    assert sent.headers["authorization"] == f"Bearer {KEY}" and sent.headers["idempotency-key"] == full.key


def test_the_key_tells_requests_apart():
    plain = {"model": "m", "messages": (("user", "u"),), "temperature": 0, "seed": 1, "max_tokens": 5, "number": 0}
    others = {
        "model": "n",
        "messages": (("system", "u"),),
        "temperature": 1,
        "seed": None,
        "max_tokens": 6,
        "number": 1,
    }
    keys = [Chat(**plain).key, *(Chat(**plain | {name: value}).key for name, value in others.items())]
    assert len(set(keys)) == 7
    assert Chat(**plain | {"temperature": 0.0}).key == keys[0]
    joined, apart = (Chat("m", messages).key for messages in [(("a", "b"),), (("a", ""), ("", "b"))])
    assert joined != apart


def test_a_reply_is_on_disk_before_it_is_told(tmp_path):
    with OpenAIServer() as server:
        asked = chats(6)
        for index, text in connect(server, tmp_path).ask(asked):
            assert list(connect(server, tmp_path, max_calls=0).ask([asked[index]])) == [(0, text)]
    stored = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    assert {entry["request"]["messages"][1][1] for entry in stored} == {f"question {i}" for i in range(6)}
    assert all(entry["text"] == "reply to " + entry["request"]["messages"][1][1] for entry in stored)


def test_as_many_at_once_as_allowed_and_never_more(tmp_path):
    together = threading.Barrier(8)
    with OpenAIServer(lambda body: str(together.wait(60))) as server:  # passes only eight at a time
        assert len(list(connect(server, tmp_path, concurrency=8).ask(chats(40)))) == 40
        assert server.most == 8
    with OpenAIServer(latency=0.05) as server:  # so that they overlap if anything lets them
        endpoint = connect(server, tmp_path, concurrency=3)
        readers = [threading.Thread(target=lambda n=n: list(endpoint.ask(chats(8, number=n)))) for n in range(3)]
        [reader.start() for reader in readers], [reader.join(60) for reader in readers]
        assert endpoint.calls == 24 and server.most <= 3


def test_a_slow_request_holds_up_no_other(tmp_path):
    gate = threading.Event()
    with OpenAIServer(lambda body: str("question 0" not in str(body) or gate.wait(60))) as server:
        replies = connect(server, tmp_path, concurrency=8).ask(chats(90))
        assert {next(replies)[0] for _ in range(89)} == set(range(1, 90))
        gate.set()
        assert list(replies) == [(0, "True")]


def test_leaving_early_sends_no_more_and_keeps_what_still_comes(tmp_path):
    gate = threading.Event()
    with OpenAIServer(lambda body: str("question 0" in str(body) or gate.wait(60))) as server:
        replies = connect(server, tmp_path, concurrency=2).ask(chats(10))
        assert next(replies) == (0, "True")
        replies.close()  # returns although the server does not answer
        gate.set()
        wait_for_workers()
        assert len(server.requests) <= 3
        assert kept(tmp_path) == {request.key for request in server.requests}


def test_an_interrupt_does_not_wait_for_a_server_that_hangs(tmp_path):
    came = threading.Event()
    with OpenAIServer(fault=lambda number: came.set() or "hang") as server:
        process = child(server, tmp_path, 9, 2)
        assert came.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        assert len(server.requests) <= 2


@pytest.mark.parametrize("moment", [0, 5, 11])
def test_killed_at_any_moment_nothing_kept_is_asked_again(tmp_path, moment):
    numbers, process, started = count(), None, threading.Event()

    def reply(body):
        if next(numbers) == moment:
            started.wait(60)
            os.kill(process.pid, signal.SIGKILL)
        return "reply to " + body["messages"][-1]["content"]

    with OpenAIServer(reply) as server:
        process = child(server, tmp_path, 12, 3)
        started.set()
        assert process.wait(60) == -signal.SIGKILL
        received, before = kept(tmp_path), len(server.requests)
        assert len(received) <= moment + 2  # what came before, and perhaps what the kill overtook
        assert child(server, tmp_path, 12, 3).wait(60) == 0
        keys = [request.key for request in server.requests]
        assert set(keys[before:]) == set(keys) - received and len(set(keys)) == 12
        assert len(keys) <= 12 + 3  # only what was on its way is sent again, and to a server that knows it
        assert set(server.made.values()) == {1}


def test_processes_and_threads_share_a_cache(tmp_path):
    together = threading.Barrier(2)

    def reply(body):  # both ask the same at the same time
        together.wait(60)
        return "reply to " + body["messages"][-1]["content"]

    with OpenAIServer(reply, idempotent=False) as server:
        both = [child(server, tmp_path, 6, 1) for _ in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
        assert len(server.requests) == 12
        endpoints = [connect(server, tmp_path, concurrency=1) for _ in range(2)]
        outcomes = []
        threads = [threading.Thread(target=lambda e=e: outcomes.extend(e.ask(chats(30, number=1)))) for e in endpoints]
        [thread.start() for thread in threads], [thread.join(60) for thread in threads]
        assert len(outcomes) == 60 and all(text == f"reply to question {index}" for index, text in outcomes)
        assert server.made[chats(1, number=1)[0].key] == 2
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 36 == len(kept(tmp_path))


def test_a_third_of_failures_of_every_kind_is_survived(tmp_path):
    kinds = ("429", "500", "503", "cut", "malformed", "empty")

    def fault(number):
        if number == 3:
            return "hang"
        draw = random.Random(number)
        return draw.choice(kinds) if draw.random() < 0.3 else None

    with OpenAIServer(fault=fault) as server:
        endpoint = connect(server, tmp_path, timeout=3.0, tries=12)
        assert dict(endpoint.ask(chats(90))) == {i: f"reply to question {i}" for i in range(90)}
        assert {request.fault for request in server.requests} == {None, "hang", *kinds}
        assert endpoint.calls == len(server.requests) and len(server.delivered) >= 90


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "Error code: 500"),
        ("429", "Error code: 429"),
        ("cut", "no connection: "),
        ("hang", "no reply within 0.2 s"),
        ("malformed", "not JSON"),
        ("empty", "reply is empty"),
    ],
)
def test_what_always_fails_is_reported_and_the_rest_is_kept(tmp_path, fault, reason):
    waits = []
    with OpenAIServer() as server:
        list(connect(server, tmp_path).ask(chats(2)))
        server.fault = lambda number: fault
        tries, timeout = (2, 0.2) if fault == "hang" else (7, 60)
        endpoint = connect(server, tmp_path, tries=tries, sleep=waits.append, timeout=timeout)
        replies = dict(endpoint.ask(chats(3)))
        assert (replies[0], replies[1]) == ("reply to question 0", "reply to question 1")
        assert isinstance(replies[2], XLLMError) and str(replies[2]).startswith(f"{server.url}: ")
        assert reason in str(replies[2]) and f"({tries} tries)" in str(replies[2]) and "\n" not in str(replies[2])
        assert endpoint.calls == len(server.requests) - 2 == tries
        for wait, longest in zip(waits, [0.5, 1, 2, 4, 8, 8][: tries - 1], strict=True):
            assert 0.75 * longest <= wait <= longest
        server.fault = lambda number: None
        assert dict(connect(server, tmp_path).ask(chats(3)))[2] == "reply to question 2"
        assert len(server.requests) == 2 + tries + 1


def test_the_same_work_is_not_billed_twice_and_unusable_work_is_not_brought_again(tmp_path):
    with OpenAIServer(fault=["cut", "500", "malformed", None].__getitem__) as server:
        list(connect(server, tmp_path).ask(chats(1)))
        key = chats(1)[0].key
        assert [request.key for request in server.requests] == [key, key, key, f"{key}-3"]
        assert server.made == {key: 1, f"{key}-3": 1}


@pytest.mark.parametrize("value", ["37", "37.5", "date"])
def test_retry_after_is_honoured(tmp_path, value):
    waits = []
    value = formatdate(time() + 110, usegmt=True) if value == "date" else value
    with OpenAIServer(fault=["429", "429", None].__getitem__, retry_after=value) as server:
        assert list(connect(server, tmp_path, sleep=waits.append).ask(chats(1))) == [(0, "reply to question 0")]
    assert len(waits) == 2 and all(37 <= wait <= 120 for wait in waits)


@pytest.mark.parametrize("value", ["0", "-5", "nan", "soon", "", "Sun, 06 Nov 1994 08:49:37 GMT", "9" * 5 + " apples"])
def test_a_retry_after_that_says_nothing_leaves_the_usual_wait(tmp_path, value):
    waits = []
    with OpenAIServer(fault=["429", None].__getitem__, retry_after=value) as server:
        assert list(connect(server, tmp_path, sleep=waits.append).ask(chats(1))) == [(0, "reply to question 0")]
    assert len(waits) == 1 and 0.375 <= waits[0] <= 0.5


@pytest.mark.parametrize("value", ["86400", "inf", "1e400"])
def test_nobody_waits_for_hours(tmp_path, value):
    with OpenAIServer(fault=lambda number: "429", retry_after=value) as server:
        replies = dict(connect(server, tmp_path, concurrency=1).ask(chats(5)))
        assert len(server.requests) == 1 and all("asks to wait" in str(error) for error in replies.values())


@pytest.mark.parametrize(
    ("fault", "calls", "hint"),
    [
        ("401", 1, "check OPENAI_API_KEY"),
        ("404", 1, "check the name of the model"),
        ("redirect", 1, "set OPENAI_BASE_URL"),
        ("403", 4, "Error code: 403"),  # may be about what one request says
        ("400", 4, "Error code: 400"),
    ],
)
def test_refusals_are_not_tried_again(tmp_path, fault, calls, hint):
    with OpenAIServer() as other, OpenAIServer(fault=lambda number: fault, elsewhere=f"{other.url}/chat") as server:
        endpoint = connect(server, tmp_path, concurrency=1)
        replies = dict(endpoint.ask(chats(4)))
        assert all(isinstance(error, XLLMError) and hint in str(error) for error in replies.values())
        assert "tries" not in str(replies[0])
        assert endpoint.calls == len(server.requests) == calls and not other.requests
        server.fault = lambda number: None
        another = Chat("another model", (("user", "x"),))
        assert list(endpoint.ask([another])) == [(0, "reply to x")]


def test_an_account_without_money_is_not_asked_again(tmp_path):
    code = "insufficient_quota"
    with OpenAIServer(fault=lambda number: "429", message="You exceeded your current quota", code=code) as server:
        replies = dict(connect(server, tmp_path, concurrency=1).ask(chats(4)))
        assert len(server.requests) == 1 and "exceeded your current quota" in str(replies[3])


def test_no_call_beyond_the_limit(tmp_path):
    with OpenAIServer(fault=lambda number: "500" if number % 3 == 0 else None) as server:
        endpoint = connect(server, tmp_path, max_calls=10)
        replies = dict(endpoint.ask(chats(30)))
        got = {index for index, reply in replies.items() if isinstance(reply, str)}
        assert len(server.requests) == endpoint.calls == 10 and len(got) == 6 and len(replies) == 30
        assert all("limit of 10 calls" in str(replies[index]) for index in set(range(30)) - got)
        again = dict(connect(server, tmp_path, max_calls=0).ask(chats(30)))
        assert {index for index, reply in again.items() if isinstance(reply, str)} == got  # the cache costs nothing
        assert len(server.requests) == 10


def test_cost_is_what_replies_report_the_useless_ones_too(tmp_path):
    prices = (3.0, 50.0)
    each = (TOKENS[0] * 3 + TOKENS[1] * 50) / 1e6
    with OpenAIServer(fault=["empty", "500", None, None, None, None].__getitem__) as server:
        endpoint = connect(server, tmp_path, concurrency=1, prices=prices, max_cost=2.5 * each)
        replies = dict(endpoint.ask(chats(5)))
        assert [isinstance(replies[i], str) for i in range(5)] == [True, True, False, False, False]
        assert endpoint.cost == pytest.approx(3 * each) and endpoint.calls == 4
        assert "limit on the cost" in str(replies[2])
        cached = connect(server, tmp_path, prices=prices)
        assert len(dict(cached.ask(chats(2)))) == 2 and cached.cost == 0
        assert connect(server, tmp_path).cost is None
    with pytest.raises(ConfigError, match="needs the prices"):
        connect(server, tmp_path, max_cost=1.0)


def body(content, usage=None, end="stop"):
    choice = {"message": {"content": content}, "finish_reason": end}
    return json.dumps({"choices": [choice]} | ({"usage": usage} if usage is not None else {})).encode()


@pytest.mark.parametrize(
    "usage",
    [None, [], 3, {}, {"prompt_tokens": -9, "completion_tokens": 1}, {"prompt_tokens": "1", "completion_tokens": None}],
)
def test_an_unreported_cost_counts_as_the_most_it_can_be(tmp_path, usage):
    with OpenAIServer(lambda _: body("好", usage)) as server:
        endpoint = connect(server, tmp_path, prices=(1e6, 1e9))
        assert list(endpoint.ask([Chat("m", (("system", "天"), ("user", "ab")))])) == [(0, "好")]
        assert endpoint.cost == 5 + 3000


TOOK = {"prompt_tokens": 3, "completion_tokens": 4}


def chat(end="stop", **message):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": end}
    return json.dumps({"choices": [choice], "usage": TOOK}).encode()


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "text", "text": "8 "}, {"type": "text", "text": "9"}],
        [{"type": "output_text", "text": "8 9", "annotations": []}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "8 9"},
            None,
            "x",
        ],
    ],
)
def test_a_content_in_parts_is_their_text(tmp_path, parts):
    with OpenAIServer(lambda _: chat(content=parts)) as server:
        assert list(connect(server, tmp_path).ask(chats(1))) == [(0, "8 9")] and len(kept(tmp_path)) == 1


@pytest.mark.parametrize(
    ("reply", "reason", "calls"),
    [
        (chat(content=None, refusal="I cannot\nhelp."), "the model refuses to reply: I cannot help.", 1),
        (chat(content=[{"type": "refusal", "refusal": "No."}]), "the model refuses to reply: No.", 1),
        (chat("content_filter", content=""), "content filter stopped the reply", 1),
        (chat("content_filter", content="8 9"), "content filter stopped the reply", 1),
        (chat("content_filter: SAFETY", content=None), "content filter stopped the reply", 1),
        (chat("length", content=None, reasoning_content="hm"), "cut off at its length, before any text", 1),
        (chat("length", content="<think>hm"), "cut off at its length, before any text", 1),
        (chat("length", content="8"), "cut the reply off at a limit of its own", 1),
        (chat(content="<think>hm</think>\n"), "nothing but thoughts", 3),
        (chat("tool_calls", content=None, tool_calls=[{}]), "the reply is empty", 3),
        (b'{"choices": [], "usage": {}}', "the reply is without choices", 3),
        (b'{"choices": null}', "the reply is without choices", 3),
        (b'{"error": {"message": "overloaded", "code": 503}}', "an error instead of a reply: overloaded", 3),
        (b'{"error": {"message": "overloaded", "code": "529"}}', "overloaded", 3),
        (b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', "slow down", 3),
        (b'{"error": "model is not loaded"}', "model is not loaded", 3),
        (b'{"error": {"message": "too long", "code": 400}}', "too long", 1),
        (b'{"error": {"message": "too long", "type": "invalid_request_error", "code": "long"}}', "too long", 1),
        (b'{"error": {"message": "who?", "code": 401}}', "who?; check OPENAI_API_KEY", 1),
        (b'{"error": {"message": "", "code": "insufficient_quota"}}', "insufficient_quota", 1),
        (b'{"choices": [{"error": {"message": "upstream", "code": 502}, "finish_reason": "error"}]}', "upstream", 3),
    ],
)
def test_a_reply_without_an_answer_has_one_reason_and_is_tried_again_where_that_helps(tmp_path, reply, reason, calls):
    with OpenAIServer(lambda _: reply, idempotent=False) as server:
        endpoint = connect(server, tmp_path, tries=3, prices=(1e6, 0))
        ((_, error),) = endpoint.ask(chats(1))
        assert isinstance(error, XLLMError) and reason in str(error) and "\n" not in str(error)
        assert len(server.requests) == calls and ("(3 tries)" in str(error)) == (calls == 3)
        assert endpoint.cost > 0 and not kept(tmp_path)
        server.reply = lambda _: "8 9"
        assert list(connect(server, tmp_path).ask(chats(1))) == [(0, "8 9")]


def openai_error(parameter, message):
    return {"error": {"message": message, "type": "invalid_request_error", "param": parameter, "code": "unsupported"}}


def mistral(body):
    """Of parameters, 422 and the place."""
    detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
    return (422, {"object": "error", "message": {"detail": detail}, "param": None}) if "seed" in body else None


def reasoning_model(body):
    """Of OpenAI: one complaint at a time."""
    if "max_tokens" in body:
        words = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return 400, openai_error("max_tokens", words)
    if body.get("temperature", 1) != 1:
        return 400, openai_error("temperature", "Unsupported value: 'temperature' does not support 0 with this model.")
    return None


def router(body):
    error = {"message": "ollama does not support parameters: {'seed': 1}, for model=m", "code": 500}
    return (500, {"error": error}) if "seed" in body else None


def above_zero(body):
    message = "Invalid params: temperature must be in range (0, +inf)"
    return (422, {"status": 422, "message": message}) if body.get("temperature") == 0 else None


@pytest.mark.parametrize(
    ("refuse", "refused", "sent"),
    [
        (mistral, ["seed"], {"temperature": 0.0, "max_tokens": 9}),
        (reasoning_model, ["max_tokens", "temperature"], {"seed": 7, "max_completion_tokens": 9}),
        (router, ["seed"], {"temperature": 0.0, "max_tokens": 9}),
        (above_zero, ["temperature"], {"seed": 7, "max_tokens": 9}),
    ],
)
def test_what_a_server_does_not_take_is_not_sent_again_and_said_once(tmp_path, caplog, refuse, refused, sent):
    asked = chats(12, seed=7, max_tokens=9)
    with OpenAIServer(refuse=refuse) as server:
        endpoint = connect(server, tmp_path, concurrency=1, tries=1)
        assert dict(endpoint.ask(asked)) == {i: f"reply to question {i}" for i in range(12)}
        assert len(server.requests) == endpoint.calls == 12 + len(refused)
        assert all(request.body.items() >= sent.items() for request in server.requests[len(refused) :])
        assert not any(name in server.requests[-1].body for name in refused)
        assert len({request.key for request in server.requests}) == len(server.requests), "another request, another key"
        assert endpoint.refused("judge") == refused and endpoint.refused("another") == []
        warnings = [record.getMessage() for record in caplog.records]
        assert len(warnings) == len(refused) and all(server.url in line and "\n" not in line for line in warnings)
        assert all(any(f"'{name}'" in line for line in warnings) for name in refused)
        at_once = connect(server, tmp_path / "at once", concurrency=8, tries=1)
        assert dict(at_once.ask(asked)) == dict(endpoint.ask(asked))
        assert len(caplog.records) == 2 * len(refused)


@pytest.mark.parametrize(
    "error",
    [
        openai_error("max_tokens", "max_tokens must be at least 1, got -4"),
        openai_error("temperature", "temperature must be between 0 and 2"),
        openai_error("messages", "this seed of trouble is too long"),
    ],
)
def test_a_value_that_is_wrong_is_an_error_and_no_parameter_is_dropped(tmp_path, caplog, error):
    with OpenAIServer(refuse=lambda body: (400, error)) as server:
        ((_, told),) = connect(server, tmp_path).ask(chats(1, temperature=5.0, seed=7, max_tokens=9))
        assert error["error"]["message"] in str(told) and len(server.requests) == 1 and not caplog.records


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"choices": []}',
        b'{"choices": {"0": 1}}',
        b'{"choices": [[]]}',
        b'{"choices": [{"message": null}]}',
        b'{"error": {"message": "overloaded"}}',
        body(None),
        body(" \n"),
        body(["a list"]),
        body({"text": "a"}),
    ],
)
def test_replies_that_are_none_are_errors_and_are_not_kept(tmp_path, reply):
    with OpenAIServer(lambda _: reply) as server:
        ((_, error),) = connect(server, tmp_path, tries=2, prices=(1.0, 1.0)).ask(chats(1))
        assert isinstance(error, XLLMError) and "(2 tries)" in str(error) and len(server.requests) == 2
        assert not kept(tmp_path)


def test_a_reply_that_the_server_cut_off_is_none_unless_we_limited_it(tmp_path):
    with OpenAIServer(lambda _: body("half a sen", end="length")) as server:
        replies = dict(connect(server, tmp_path).ask([*chats(1), *chats(1, max_tokens=3)]))
        assert "limit of its own" in str(replies[0]) and replies[1] == "half a sen" and len(server.requests) == 2


def test_any_text_goes_both_ways(tmp_path):
    texts = [
        "\x00\x1b[2J",
        "\u202e\ufeff",
        '"}]}',
        "line\r\nline\u2028",
        "好" * 50_000,
        "sk-" * 9,
        "half \ud83d a face",
    ]
    with OpenAIServer(lambda sent: sent["messages"][0]["content"]) as server:
        asked = [Chat("m", (("user", text),)) for text in texts]
        sent = [text.encode("utf-8", "replace").decode() for text in texts]
        for more in ({}, {"max_calls": 0}):
            assert dict(connect(server, tmp_path, **more).ask(asked)) == dict(enumerate(sent))
    with OpenAIServer(lambda _: body("half \ud83d a face")) as server:
        assert list(connect(server, tmp_path).ask(chats(1))) == [(0, "half ? a face")]


def test_the_key_is_in_no_file_and_no_error(tmp_path):
    def fault(number):
        return ("401", "400", "500", None)[number % 4]

    with OpenAIServer(fault=fault, message=f"Incorrect API key provided: {KEY}\n" * 30) as server:
        secret = server.url.replace("//", "//user:pass-word@")
        endpoints = [Endpoint(tmp_path, url, tries=1, concurrency=1) for url in (server.url, secret)]
        asked = [Chat(str(i), (("user", "u"),)) for i in range(4)]
        for endpoint in endpoints:
            errors = [reply for _, reply in endpoint.ask(asked) if isinstance(reply, XLLMError)]
            assert len(errors) == 3 and all("Incorrect API key provided: ***" in str(e) for e in errors)
            for error in errors:
                told = f"{error!r} {error.__cause__!r} {error.__context__!r}"
                assert not any(word in told for word in (KEY, KEY[:8], "pass-word"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1  # one address, with and without a password
    for path in files:
        assert not any(word in f"{path} {path.read_text()}" for word in (KEY, "pass-word", "Bearer"))


def test_settings_that_cannot_work(tmp_path, monkeypatch):
    for key in ("two words", "line\nbreak", "schlüssel"):
        with pytest.raises(ConfigError, match="OPENAI_API_KEY has characters") as caught:
            Endpoint(tmp_path, api_key=key)
        assert key not in str(caught.value)
    for address in ("127.0.0.1:8000/v1", "ftp://127.0.0.1/v1", "http://", "http://a:port", "http://a/v1?key=k", ""):
        with pytest.raises(ConfigError, match="set OPENAI_BASE_URL"):
            Endpoint(tmp_path, address)
    for limits in ({"concurrency": 0}, {"tries": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            Endpoint(tmp_path, **limits)
    assert Endpoint(tmp_path).url == "https://api.openai.com/v1"
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="export OPENAI_API_KEY"):
        Endpoint(tmp_path, "http://127.0.0.1/v1")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "the package takes it for a key of another kind")
    with pytest.raises(ConfigError, match="export OPENAI_API_KEY"):
        Endpoint(tmp_path, "http://127.0.0.1/v1")


def test_nobody_listens(tmp_path):
    with OpenAIServer() as server:
        pass
    ((_, error),) = connect(server, tmp_path, tries=2).ask(chats(1))
    assert "no connection" in str(error) and server.url in str(error)


def test_a_damaged_file_is_asked_anew(tmp_path):
    with OpenAIServer() as server:
        list(connect(server, tmp_path).ask(chats(1)))
        (path,) = tmp_path.rglob("*.json")
        for damage in (b"", b"{", b"[]", b'{"text": 3}', b"\xff", path.read_bytes()[:20], b"[" * 100_000):
            path.write_bytes(damage)
            assert list(connect(server, tmp_path).ask(chats(1))) == [(0, "reply to question 0")]
        assert len(server.requests) == 8


def test_a_cache_that_cannot_be_used_costs_at_most_what_is_on_its_way(tmp_path, monkeypatch):
    with OpenAIServer() as server:
        (tmp_path / "file").write_text("")
        replies = dict(connect(server, tmp_path / "file").ask(chats(9)))
        assert all("cache cannot be read" in str(error) for error in replies.values()) and not server.requests

        def full(path, text):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(text_cache, "write_atomic", full)
        replies = dict(connect(server, tmp_path, concurrency=1).ask(chats(9)))
        assert all("No space left on device" in str(error) for error in replies.values())
        assert len(replies) == 9 and len(server.requests) == 1
