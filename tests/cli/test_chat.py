"""`xllm chat` on random weights: one question, a manifest, a conversation with its commands, and what goes wrong."""

import fcntl
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
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


def test_broken_rows_of_a_manifest_do_not_stop_the_others(chat, seeing):
    good = {"id": "good", "instruction": "天"}
    lines = [
        json.dumps(good),
        "{broken",
        json.dumps({"id": "long", "instruction": "天" * 300}),
        json.dumps({"id": "picture", "instruction": "天", "image": 5}),
        json.dumps({"id": "past", "instruction": "天", "history": [{"question": "地"}]}),
        json.dumps({"id": "silent"}),
        json.dumps(good | {"id": "last"}),
    ]
    (seeing / "q.jsonl").write_text("\n".join(lines))
    code, out, err = chat(seeing / "q.jsonl")
    answered = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [row["id"] for row in answered] == ["good", "last"]
    assert answered[0]["response"] == answered[1]["response"]
    wanted = [
        ":2: not valid JSON",
        ":4: 'image' must",
        ":5: 'history' must",
        "long: the question takes",
        "silent: nothing",
    ]
    assert all(w in line for w, line in zip(wanted, err.splitlines(), strict=False))
    assert err.splitlines()[5:] == ["5 of 7 questions failed"]


def test_company_in_a_batch_shortens_no_answer(chat, seeing):
    rows = [{"id": "short", "instruction": "天"}, {"id": "long", "instruction": "天地人" * 30}]
    (seeing / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = [chat(seeing / "q.jsonl", "--max-tokens", 100, "--batch-size", n)[1] for n in (1, 2)]
    assert results[0] == results[1]


def test_a_conversation_through_a_pipe(chat, seeing, tmp_path, monkeypatch):
    monkeypatch.chdir(seeing)
    talk = "/image red.png\n天\n/save s.json\n地\\\n人\n"
    code, out, err = chat(lines=talk)
    first, second = out.splitlines()
    assert code == 0 and err == ""
    saved = json.loads((seeing / "s.json").read_text())
    assert saved["turns"] == [{"instruction": "天", "response": first}]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, out, err = chat(lines=f'/load {seeing / "s.json"}\n"""\n地\n人\n"""\n/quit\n天\n')
    assert (code, out, err) == (0, second + "\n", "")
    code, out, _ = chat(lines=f"/load {seeing / 's.json'}\n/clear\n天\n")
    assert out == chat(lines="天\n")[1]


def test_a_block_is_never_a_command(chat):
    code, out, err = chat(lines='"""\n/天地\n"""\n')
    assert code == 0 and err == "" and out == chat("-p", "/天地")[1]


def test_what_goes_wrong_is_one_line_and_the_session_goes_on(chat, seeing):
    broken = {
        "bad": [],
        "part": {"media": [{"kind": "llm", "path": "x"}], "turns": []},
        "path": {"media": [{"kind": "image", "path": 5}], "turns": []},
        "gone": {"media": [{"kind": "image", "path": str(seeing / "none.png")}], "turns": []},
    }
    for name, state in broken.items():
        (seeing / f"{name}.json").write_text(json.dumps(state))
    lines_and_messages = [
        ("/imge x", "did you mean /image?"),
        ("/QUIT", "did you mean /quit?"),
        ("/xyz", "/help lists them"),
        ("/image", "needs a file"),
        (f"/image {seeing / 'none.png'}", "no such file"),
        ("/image ~nobody/x.png", "no such file"),
        (f"/save {seeing}", "cannot write there"),
        ("/save a\0b", "cannot write there"),
        ("/load none.json", "none.json: cannot be read"),
        (f"/load {seeing / 'red.png'}", "red.png: not a saved conversation"),
        *((f"/load {seeing / name}.json", "not a saved conversation") for name in ("bad", "part", "path")),
        (f"/load {seeing / 'gone.json'}", "none.png: no such file"),
        ("天" * 300, "/clear"),
    ]
    lines, messages = zip(*lines_and_messages, strict=True)
    code, out, err = chat(lines="\n".join([*lines, "天"]) + "\n")
    assert code == 1 and out == chat("-p", "天")[1]
    assert len(err.splitlines()) == len(messages)
    assert all(w in line for w, line in zip(messages, err.splitlines(), strict=True))


@pytest.mark.parametrize(
    "arguments, expected, message",
    [
        (["-p", "天", "--image", "none.png"], 1, "none.png: no such file"),
        (["--audio", "none.wav", "--transcript"], 1, "none.wav: no such file"),
        (["none.jsonl"], 1, "none.jsonl: cannot read the manifest: No such file"),
        (["-p", " "], 2, "nothing is asked"),
        (["-p", "\udcc4\udce3"], 2, "UTF-8"),
        (["none.jsonl", "-p", "天"], 2, "asks by itself"),
        (["--web", "--image", "a.png"], 2, "asks by itself"),
        (["none.jsonl", "--web"], 2, "not both"),
        (["--json"], 2, "--json is for"),
        (["-p", "天", "--transcript"], 2, "--transcript is for"),
        (["-p", "天", "--port", "80"], 2, "--port is for --web"),
    ],
)
def test_wrong_use_is_one_line(chat, arguments, expected, message):
    code, out, err = chat(*arguments)
    assert (code, out) == (expected, "") and message in err and len(err.splitlines()) == 1


def test_text_of_another_encoding_is_told(chat, monkeypatch, xllm, seeing):
    for arguments, expected in ((["-p", "-"], 2), ([], 1)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("这是什么\n".encode("gbk")), encoding="utf-8"))
        code, out, err = xllm("chat", "--model", seeing / "seeing", *arguments)
        assert (code, out) == (expected, "") and "UTF-8" in err and len(err.splitlines()) == 1


def test_a_spoken_turn_is_remembered_as_what_was_heard(chat, seeing):
    heard = json.loads(chat("--audio", EXAMPLES[0], "--json", "--transcript")[1])
    code, out, err = chat("--transcript", lines=f"/audio '{EXAMPLES[0]}'\n/save {seeing / 's.json'}\n")
    assert code == 0 and err == f"heard: {heard['transcript']}\n" and out == heard["response"] + "\n"
    turn = {"instruction": heard["transcript"], "response": heard["response"]}
    assert json.loads((seeing / "s.json").read_text())["turns"] == [turn]


def test_ctrl_c_ends_a_pipe(chat, monkeypatch):
    from xllm_cli import conversation

    def interrupt(text):
        if text != "\n":
            raise KeyboardInterrupt

    monkeypatch.setattr(conversation, "result", interrupt)
    assert chat(lines="天\n地\n")[0] == 130


SLOWLY = """
import sys, time
from xllm import chat
whole = chat.stream
def slow(*arguments):
    for piece in whole(*arguments):
        yield piece
        print("<begun>", file=sys.stderr, flush=True)
        time.sleep(0.3)
chat.stream = slow
from xllm_cli.main import main
main()
"""


class Terminal:
    """`xllm chat` on a pseudo-terminal, with slow answers; stdout may go to a file."""

    def __init__(self, model, folder, tokens, stdout=None):
        command = [sys.executable, "-W", "ignore", "-c", SLOWLY, "chat", "--model", model, "--device", "cpu"]
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*map(str, command), "--max-tokens", str(tokens)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "dumb"},
            stdin=slave,
            stdout=stdout or slave,
            stderr=slave,
            preexec_fn=self._own_terminal,
        )
        os.close(slave)

    @staticmethod
    def _own_terminal():
        """So that Ctrl-C is a signal, also where the tests run in the background of a shell that ignores it."""
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def talk(self, *steps):
        """Wait for each mark, in order, and then press the keys beside it."""
        seen, end = b"", time.monotonic() + 120  # bytes: a character may come in parts
        for mark, keys in steps:
            while mark.encode() not in seen:
                assert time.monotonic() < end, f"{mark!r} never came: {seen!r}"
                if select.select([self.master], [], [], 0.2)[0]:
                    seen += os.read(self.master, 1 << 16)
            seen = seen.partition(mark.encode())[2]
            if keys:
                time.sleep(0.3)  # until the reader has the terminal
                os.write(self.master, keys.encode())

    def close(self) -> int:
        """The exit code."""
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            os.close(self.master)


def test_on_a_terminal_ctrl_c_keeps_the_session(seeing):
    terminal = Terminal(seeing / "seeing", seeing, tokens=100)
    terminal.talk(
        ("> ", "\x03"),
        ("Ctrl-D leaves", ""),
        ("> ", "/image re\t\r"),  # Tab completes
        ("sees red.png", ""),
        ("> ", "天地\r"),
        ("<begun>", "\x03"),
        ("(interrupted)", ""),
        ("> ", "/save s.json\r"),
        ("saved", ""),
        ("> ", "\x1b[A\x1b[A"),
        ("天地", "\x15\x04"),  # the history; then an empty line, and away
    )
    assert terminal.close() == 0
    turns = json.loads((seeing / "s.json").read_text())["turns"]
    assert len(turns) == 1 and turns[0]["instruction"] == "天地" and turns[0]["response"]


def test_prompts_stay_out_of_redirected_results(seeing, chat):
    with (seeing / "out.txt").open("w") as out:
        terminal = Terminal(seeing / "seeing", seeing, tokens=6, stdout=out)
        terminal.talk(("> ", "天\n"), ("> ", "\x04"))
        assert terminal.close() == 0
    assert (seeing / "out.txt").read_text() == chat("-p", "天")[1]


def test_help_lists_the_commands(chat, xllm):
    _, _, err = chat(lines="/help\n")
    for command in ("/image", "/video", "/audio", "/clear", "/save", "/load", "/help", "/quit"):
        assert command in err
    code, out, _ = xllm("chat", "--help")
    options = "--prompt --image --video --audio --transcript --temperature --top-p --top-k --seed --max-tokens"
    options += " --batch-size --json --model --device --web --port --quiet /image /video /audio /clear /save /load"
    assert code == 0 and all(option in out for option in options.split())


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
    report = json.loads((seeing / "out" / "report.json").read_text())
    _, right, swapped = report["tables"]["By what was shown"]
    assert right[:2] == ["right", str(summary["right"]["percent"])] and right[3] == "2" and swapped[0] == "swapped"
    assert [s["numbers"]["exact"] for s in report["samples"][:3]] == [*(int(row["right"]) for row in written), None]
    assert report["samples"][0]["media"] == [{"kind": "image", "path": str(seeing / "red.png")}]
    assert "2 of 6 failed" in (seeing / "out" / "report.md").read_text()
