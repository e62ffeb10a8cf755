"""The command as a whole: help is quick because it is light, versions, unknown commands, the README's commands."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['xllm', '--help']\n"
        "from xllm_cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'av', 'pydantic', 'jiwer'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for command in ("asr", "train", "eval", "prepare-data", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize("command", [["asr"], ["train"], ["eval", "asr"], ["prepare-data", "tiny-speech"], ["doctor"]])
def test_every_command_has_help_for_every_option(xllm, command):
    code, out, _ = xllm(*command, "--help")
    assert code == 0 and "Usage" in out and "--help" in out


def test_version_and_unknown_command(xllm):
    assert xllm("--version")[1].startswith("xllm 0.")
    assert xllm("transcribe")[0] == 2
    assert xllm("asr")[0] == 2


def test_unexpected_errors_are_one_line(xllm, monkeypatch):
    monkeypatch.setattr("xllm_cli.inputs.expand", lambda inputs: 1 / 0)
    code, _, err = xllm("asr", "x.wav")
    assert code == 1 and err.count("\n") == 1 and "ZeroDivisionError" in err and "--debug" in err


def test_what_the_disk_refuses_is_named(xllm, monkeypatch):
    def full(inputs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/a.json")

    monkeypatch.setattr("xllm_cli.inputs.expand", full)
    assert xllm("asr", "x.wav") == (1, "", "error: run/a.json: No space left on device\n")


def test_interrupt_is_130(xllm, monkeypatch):
    def interrupt(inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr("xllm_cli.inputs.expand", interrupt)
    assert xllm("asr", "x.wav")[0] == 130


def test_doctor_knows_devices_versions_and_models(xllm):
    import json

    code, out, _ = xllm("doctor", "--json")
    told = json.loads(out)
    assert code == 0 and told["torch"][0].isdigit() and told["device (auto)"]
    assert "tiny" in told["models"]
    assert "device (auto)" in xllm("doctor")[1]


def test_a_system_is_exported(xllm, tmp_path):
    code, out, err = xllm("export", "tiny", tmp_path / "mine")
    assert code == 0 and out == "" and "image 3.0M" in err and "# tiny" in (tmp_path / "mine" / "README.md").read_text()
    assert xllm("asr", ROOT / "examples" / "wait.opus", "--model", tmp_path / "mine", "--offline")[0] == 0
    code, _, err = xllm("export", "tiny", tmp_path / "mine")
    assert code == 2 and "is not empty" in err and err.count("\n") == 1


def test_offline_asks_no_hub(xllm, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    code, _, err = xllm("asr", ROOT / "examples" / "wait.opus", "--model", "nobody/nothing@v1", "--offline")
    assert code == 2 and "hf download nobody/nothing --revision v1" in err and err.count("\n") == 1


def test_quiet_hides_the_librarys_warnings(capsys):
    """Python's logging prints by itself what no handler takes."""
    import logging

    from xllm_cli.console import show_warnings

    for quiet, shown in ((False, "warning: odd\n"), (True, "")):
        show_warnings(quiet)
        logging.getLogger("xllm.training").warning("odd")
        assert capsys.readouterr().err == shown
