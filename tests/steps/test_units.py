"""units.txt from manifests: what was said, by frequency, as the recogniser reads it."""

import json

import pytest

from xllm.errors import ManifestError
from xllm.speech.units import Units
from xllm.steps.units import write_units


def test_characters_by_frequency(tmp_path):
    rows = [
        {"id": "1", "speech": "a.wav", "response": "天地，天 Ａ"},
        {"id": "2", "speech": "b.wav", "response": "天地人"},
        {"id": "3", "response": "没有声音"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "nonsense\n")
    assert write_units([tmp_path / "a.jsonl"], tmp_path / "tokenizer") == (4, 0)
    assert Units.load(tmp_path / "tokenizer").characters[2:] == ("天", "地", "a", "人")
    assert write_units([tmp_path / "a.jsonl"], tmp_path / "tokenizer", least=2) == (2, 2)
    assert (tmp_path / "tokenizer" / "units.txt").read_text() == "天\n地\n"
    (tmp_path / "b.jsonl").write_text(json.dumps(rows[2]) + "\n")
    with pytest.raises(ManifestError, match="no row has speech"):
        write_units([tmp_path / "b.jsonl"], tmp_path / "none")


def test_the_command(tmp_path, monkeypatch, capsys):
    import sys

    from xllm_cli.main import main

    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "1", "speech": "a.wav", "response": "天地"}) + "\n")
    monkeypatch.setattr(sys, "argv", ["xllm", "prepare-data", "units", str(tmp_path / "a.jsonl"), "-o", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code and "2 characters, 0 rarer" in capsys.readouterr().err
