"""`xllm chat` on random weights: one question, a manifest, a conversation with its commands, and what goes wrong."""

import io
import json
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.opus"))


@pytest.fixture
def chat(xllm, seeing, monkeypatch):
    """Call `xllm chat` with lines on stdin."""

    def run(*arguments, lines=""):
        stdin = io.TextIOWrapper(io.BytesIO(lines.encode()))
        monkeypatch.setattr("sys.stdin", stdin)
        return xllm("chat", "--model", seeing / "seeing", "--max-tokens", 6, "--device", "cpu", *arguments)

    return run


def test_one_question_streams_to_stdout(chat, seeing):
    code, out, err = chat("-p", "天地", "--image", seeing / "red.png")
    assert code == 0 and out.endswith("\n") and out.strip() and err == ""
    code, piped, _ = chat("-p", "-", "--image", seeing / "red.png", lines="天地\n")
    assert (code, piped) == (0, out)
    code, told, _ = chat("-p", "天地", "--image", seeing / "red.png", "--json")
    assert json.loads(told) == {"instruction": "天地", "response": out[:-1]}


def test_a_spoken_question_is_answered_and_told_on_request(chat):
    code, out, err = chat("--audio", EXAMPLES[0], "--json", "--transcript")
    told = json.loads(out)
    assert code == 0 and told["instruction"] is None and "transcript" in told and err == ""
    code, out, err = chat("--audio", EXAMPLES[0], "--transcript")
    assert code == 0 and out == told["response"] + "\n" and err == f"heard: {told['transcript']}\n"


def test_a_manifest_is_answered_in_order(chat, seeing):
    rows = [
        {"id": "a", "instruction": "天", "image": "red.png"},
        {"id": "b", "instruction": "地", "image": "none.png"},
        {"id": "c", "speech": str(EXAMPLES[0])},
        {"id": "d", "instruction": "人", "history": [{"instruction": "天", "response": "地"}]},
    ]
    (seeing / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = chat(seeing / "q.jsonl", "--batch-size", 3)
    answered = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [row["id"] for row in answered] == ["a", "c", "d"]
    assert "error: b:" in err and "1 of 4 questions failed" in err
    assert answered[0]["response"] + "\n" == chat("-p", "天", "--image", seeing / "red.png")[1]
    code, _, err = chat(seeing / "q.jsonl", "-p", "天")
    assert code == 2 and "by itself" in err


def test_a_conversation_through_a_pipe(chat, seeing):
    talk = f"/image {seeing / 'red.png'}\n天\n/save {seeing / 's.json'}\n地\\\n人\n"
    code, out, err = chat(lines=talk)
    first, second = out.splitlines()
    assert code == 0 and err == ""
    saved = json.loads((seeing / "s.json").read_text())
    assert saved["turns"] == [{"instruction": "天", "response": first}]
    code, out, _ = chat(lines=f'/load {seeing / "s.json"}\n"""\n地\n人\n"""\n/quit\n天\n')
    assert code == 0 and out.splitlines() == ["> 天", first, second]
    code, out, _ = chat(lines=f"/load {seeing / 's.json'}\n/clear\n天\n")
    assert out.splitlines()[2] == chat(lines="天\n")[1].strip("\n")


def test_what_goes_wrong_is_one_line_and_the_session_goes_on(chat, seeing):
    (seeing / "bad.json").write_text("[]")
    lines = ["/imge x", "/xyz", "/image", f"/image {seeing / 'none.png'}", f"/load {seeing / 'bad.json'}", "天"]
    code, out, err = chat(lines="\n".join(lines) + "\n")
    assert code == 0 and len(out.splitlines()) == 1
    wanted = ["did you mean /image?", "/help lists them", "needs a file", "no such file", "not a saved conversation"]
    assert len(err.splitlines()) == 5
    assert all(w in line for w, line in zip(wanted, err.splitlines(), strict=True))
    code, out, err = chat("-p", "天", "--image", seeing / "none.png")
    assert code == 1 and out == "" and "no such file" in err
    code, _, err = chat("-p", "")
    assert code == 2 and "nothing is asked" in err


def test_ctrl_c_ends_the_answer_and_keeps_the_session(chat, monkeypatch):
    from xllm_cli import conversation

    shown = []

    def interrupt(text):
        if not shown:
            shown.append(text)
            raise KeyboardInterrupt
        shown.append(text)

    monkeypatch.setattr(conversation, "result", interrupt)
    code, _, err = chat(lines="天\n地\n")
    assert code == 0 and "(interrupted)" in err and len(shown) > 2


def test_help_lists_the_commands(chat, xllm):
    _, _, err = chat(lines="/help\n")
    for command in ("/image", "/video", "/audio", "/clear", "/save", "/load", "/help", "/quit"):
        assert command in err
    code, out, _ = xllm("chat", "--help")
    assert code == 0 and all(option in out for option in ("--temperature", "--top-p", "--image", "--json"))


def test_eval_answers_counts_and_swaps(xllm, seeing, chat):
    said = chat("-p", "天", "--image", seeing / "red.png")[1].strip("\n")
    rows = [{"id": c, "instruction": "天", "image": f"{c}.png", "response": said + c} for c in ("red", "blue", "none")]
    rows[0]["response"] = said
    (seeing / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--model", seeing / "seeing", "-q", "--swap", "-o", seeing / "out"]
    code, out, err = xllm("eval", "answers", seeing / "q.jsonl", *options)
    assert code == 1 and "none:" in err and out.splitlines()[0].split()[0] == "right"
    summary = json.loads((seeing / "out" / "summary.json").read_text())
    assert summary["right"]["questions"] == 2 and summary["failed"] == 2
    written = [json.loads(line) for line in (seeing / "out" / "answers-right.jsonl").read_text().splitlines()]
    assert [row["id"] for row in written] == ["red", "blue"] and all("right" in row for row in written)
