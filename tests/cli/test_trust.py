"""Commands given a model that brings code, with a stdin that says yes: one line, exit code 2, and it never ran."""

import io
import json
import sys

import pytest
import yaml
from media_files import tone, write_audio
from PIL import Image
from small_models import with_code

from xllm import checkpoint
from xllm.config import LLMConfig, to_yaml


@pytest.fixture
def world(small_system, small_config, tmp_path, monkeypatch):
    """A checkpoint around that model, a recipe that names it, and a manifest."""
    stranger = with_code(tmp_path / "stranger", tmp_path / "ran")
    config = small_config.model_copy(update={"llm": LLMConfig(name=str(stranger))})
    parts = checkpoint.tensors(small_system, ("recognizer", "speech"))
    checkpoint.save(tmp_path / "run", "small", config, parts)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    write_audio(tmp_path / "a.wav", tone(0.5))
    row = {"id": "a", "image": "a.png", "instruction": "天", "response": "地"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    stage = {"stage": 2, "start_from": ["run"], "train": ["rows.jsonl"], "output": "out", "schedule": {"warmup": 1}}
    recipe = {"name": "r", "model": yaml.safe_load(to_yaml(config)), "stages": {"speech": stage}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\ny\nyes\n" * 9))
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "chat --model run --device cpu",
        "chat rows.jsonl --model run --device cpu",
        "asr a.wav --model run --device cpu",
        "masr a.wav --image a.png --model run --device cpu",
        "train r.yaml --stage 2 --device cpu",
        "train r.yaml --meta",
        "prepare-data filter rows.jsonl filtered --clip stranger",
        "prepare-data synthesize rows.jsonl spoken --model stranger",
        "prepare-data translate rows.jsonl translated --model stranger",
    ],
)
def test_no_command_runs_code_that_a_model_brings(xllm, world, command):
    code, _, err = xllm(*command.split())
    assert not (world / "ran").exists()
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and "trust_remote_code" not in err and "Do you wish" not in err
    if "translate" not in command:  # mBART's own classes ask for no other
        assert "brings code of its own, which is never run" in error


def test_export_and_doctor_do_not_even_look(xllm, world):
    assert xllm("export", "run", "shared")[0] == 0 and xllm("doctor")[0] == 0
    assert not (world / "ran").exists()
