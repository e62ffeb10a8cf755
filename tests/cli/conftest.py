"""Running the `xllm` command inside the test's process."""

import sys

import pytest


@pytest.fixture
def xllm(monkeypatch, capsys):
    """Call `xllm ARGS`; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        from xllm_cli.main import main

        monkeypatch.setattr(sys, "argv", ["xllm", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
