"""`xllm prepare-data`: what is there, each corpus and step as a command, exit codes, and what is said."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from media_files import tone, write_audio

from xllm.corpora.table import CORPORA
from xllm.steps.table import STEPS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def aishell(tmp_path):
    """Six utterances, of which one has no wav and one no words."""
    base = tmp_path / "data_aishell"
    (base / "transcript").mkdir(parents=True)
    (base / "wav" / "train" / "S0002").mkdir(parents=True)
    for number in range(5):
        write_audio(base / "wav" / "train" / "S0002" / f"BAC009S0002W000{number}.wav", tone(0.5))
    lines = [f"BAC009S0002W000{number} {words}" for number, words in enumerate(["天 地", "人", "", "你", "我", "他"])]
    (base / "transcript" / "aishell_transcript_v0.8.txt").write_text("\n".join(lines))
    return base


def test_the_list_has_all_that_one_needs_to_know(xllm):
    code, out, _ = xllm("prepare-data", "--list")
    lines = out.splitlines()
    assert code == 0 and len(lines) == len(CORPORA) + 1 == 16
    for line, corpus in zip(lines[1:], CORPORA.values(), strict=True):
        for part in (corpus.name, corpus.kind, corpus.size, corpus.licence, corpus.where, corpus.used):
            assert part in line
        assert corpus.where.startswith("https://")


def test_help_names_every_corpus_and_step_and_explains_each(xllm):
    code, out, _ = xllm("prepare-data", "--help")
    assert code == 0
    for name in (*CORPORA, *STEPS, "run", "tiny-speech"):
        assert f" {name} " in out
        code, text, _ = xllm("prepare-data", name, "--help")
        assert code == 0 and "Usage" in text and "--help" in text
    text = " ".join(xllm("prepare-data", "aishell-1", "--help")[1].split())
    assert "data_aishell.tgz" in text and "openslr.org/33" in text and "Apache 2.0" in text


def test_every_option_of_a_step_can_be_given_and_defaults_stand_once(xllm):
    """What the command line has is what recipes have; its own defaults are none."""
    from xllm_cli.commands.prepare_data import app

    commands = typer.main.get_command(app).commands
    for name, step in STEPS.items():
        given = {parameter.name: parameter for parameter in commands[name].params}
        own = {"translate": {"source": "source_language", "target": "target_language", "keys": "key"}}
        alias = own.get(name, {}) | ({"counts": "count"} if name == "instructions" else {})
        hidden = {"folder", "scratch", "name", "base_url"}
        for key in step.model_fields.keys() - hidden:
            parameter = given[alias.get(key, key)]
            assert parameter.required or parameter.default in (None, "auto"), (name, key)


def test_a_corpus_is_converted_and_told_of(xllm, aishell, tmp_path):
    code, out, err = xllm("prepare-data", "aishell-1", aishell.parent, tmp_path / "out")
    assert code == 0 and out == ""
    assert "train.jsonl: 6 in, 4 kept, 2 dropped, 0 failed (1 no words, 1 no such file)" in err
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").open()]
    assert [row["response"] for row in rows] == ["天地", "人", "你", "我"] and rows[0]["duration"] == 0.5
    again = xllm("prepare-data", "aishell-1", aishell.parent, tmp_path / "out", "--workers", 2, "--split", "train")
    assert again[0] == 0 and "4 kept" in again[2]
    assert xllm("asr", tmp_path / "out" / "train.jsonl", "--engine", "cif")[0] == 0


def test_steps_are_chained_and_what_fails_is_exit_1(xllm, aishell, tmp_path):
    xllm("prepare-data", "aishell-1", aishell.parent, tmp_path / "raw", "--limit", 4)
    (aishell / "wav" / "train" / "S0002" / "BAC009S0002W0003.wav").write_text("no sound")
    code, _, err = xllm("prepare-data", "check", tmp_path / "raw" / "train.jsonl", tmp_path / "checked")
    assert code == 1 and "checked/train.jsonl: 3 in, 2 kept, 0 dropped, 1 failed (1 damaged)" in err
    assert "<svg" in (tmp_path / "checked" / "train.html").read_text()
    code, _, err = xllm(
        "prepare-data", "shard", tmp_path / "checked" / "train.jsonl", tmp_path / "s.jsonl", "--per-shard", 1
    )
    assert code == 0 and sorted(path.name for path in tmp_path.glob("*.tar")) == ["s-000000.tar", "s-000001.tar"]
    code, _, err = xllm(
        "prepare-data",
        "instructions",
        tmp_path / "i.jsonl",
        "--recognise",
        tmp_path / "s.jsonl",
        "--count",
        "recognise=1",
    )
    assert code == 0 and "2 in, 1 kept, 1 dropped, 0 failed (1 not drawn)" in err


def test_wrong_usage_is_one_line_and_exit_2(xllm, aishell, tmp_path):
    out = tmp_path / "out"
    for arguments, words in (
        (("aishell-1", tmp_path / "nowhere", out), "no such folder"),
        (("aishell-1", aishell.parent, out, "--split", "nowhere"), "no split 'nowhere'; it has train, dev, test"),
        (("coco", aishell.parent, out), "holds no"),
        (("check", tmp_path / "a.jsonl", out), "cannot read the manifest"),
        (("run", tmp_path / "none.yaml", tmp_path, out), "cannot read"),
    ):
        code, _, err = xllm("prepare-data", *arguments)
        assert code in (1, 2) and words in err and err.count("\n") == 1, err
    (tmp_path / "a.jsonl").write_text("{}\n")
    code, _, err = xllm("prepare-data", "synthesize", tmp_path / "a.jsonl", out)
    assert code == 2 and "give either a model or a command" in err
    assert xllm("prepare-data", "aishell-3", tmp_path, out)[0] == 2


def test_made_otherwise_is_not_overwritten(xllm, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "1", "response": "a"}\n')
    assert xllm("prepare-data", "filter", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--unique", "response")[0] == 0
    code, _, err = xllm("prepare-data", "filter", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--min-characters", 9)
    assert code == 2 and "made otherwise" in err and (tmp_path / "b.jsonl").read_text()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_interrupted_with_workers_it_ends_whole_and_goes_on(tmp_path):
    """Ctrl-C, then SIGKILL, with two workers: nobody is left behind, and the third run finishes the same."""
    rows = [{"id": str(number), "response": f"text {number}"} for number in range(3000)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wav = write_audio(tmp_path / "tone.wav", tone(0.1))
    marker = f"--suffix={tmp_path}"
    command = f"cp '{marker}-{{text}}' '{wav}' {{out}}"
    run = [sys.executable, "-m", "xllm_cli.main", "prepare-data", "synthesize", tmp_path / "a.jsonl"]

    def start(out):
        return subprocess.Popen(
            [*run, tmp_path / out, "--command", command, "--workers", "2"], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )

    family: set[int] = set()
    for number in (signal.SIGINT, signal.SIGKILL):
        process = start("b.jsonl")
        deadline = time.monotonic() + 60
        spoken = len(list((tmp_path / "speech").rglob("*.wav")))
        while len(list((tmp_path / "speech").rglob("*.wav"))) < spoken + 300 and time.monotonic() < deadline:
            time.sleep(0.05)
        family |= _children(process.pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (130, -9) and not (tmp_path / "b.jsonl").exists()
        assert "Traceback" not in err
    deadline = time.monotonic() + 20
    while (alive := {pid for pid in family if Path(f"/proc/{pid}").exists()}) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(family) >= 4 and not alive
    process = start("b.jsonl")
    assert process.wait(timeout=120) == 0 and not list(tmp_path.glob(".*"))
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 3000


def _children(pid: int) -> set[int]:
    """Processes that this one has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}
