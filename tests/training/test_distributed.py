"""Several processes train as one: the weights of a single process that accumulates as many batches."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from xllm.checkpoint import load_tensors

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path, small_tokenizer):
    texts = [
        {"id": f"t{i}", "response": "天地人你我他请忠实地识别语音"[i % 7 : 3 + i % 11], "reading": None}
        for i in range(64)
    ]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    stage = {
        "stage": 0,
        "modality": "text",
        "train": [f"{tmp_path}/text.jsonl"],
        "output": f"{tmp_path}/run",
        "batch_cost": 90,
        "epochs": 2,
        "lr": 0.01,
        "schedule": {"kind": "cosine", "warmup": 2, "decay": 50},
    }
    llm = {"width": 16, "ffn": 32, "heads": 2, "layers": 1, "max_tokens": 64}
    world = {"name": "small", "model": {"tokenizer": str(small_tokenizer), "llm": llm}, "stages": {"llm": stage}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(world))
    return tmp_path / "r.yaml"


def command(recipe, *arguments):
    run = [sys.executable, "-m", "xllm_cli.main", "train", recipe, "--stage", "0", "--device", "cpu", *arguments]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=120)


def train(recipe, output, *arguments):
    done = command(recipe, f"output={output}", *arguments)
    return done.returncode, done.stderr


def batches(recipe):
    return json.loads(command(recipe, "--dry-run").stdout)["batches"]


@pytest.mark.parametrize(("cost", "odd"), [(90, 0), (50, 1)])
def test_two_processes_are_one_that_accumulates(recipe, tmp_path, cost, odd):
    """Also where an epoch's batches are odd in number: nobody waits, and none is left out."""
    recipe.write_text(recipe.read_text().replace("batch_cost: 90", f"batch_cost: {cost}"))
    assert batches(recipe) % 2 == odd
    for name, arguments in (("one", ["accumulate=2"]), ("two", ["--processes", "2"])):
        code, err = train(recipe, tmp_path / name, *arguments)
        assert code == 0, err
    one, two = (load_tensors(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=2e-6), name  # sums in another order
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [entry["step"] for entry in logs[0]] == [entry["step"] for entry in logs[1]]


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_another_number_of_processes_goes_on(recipe, tmp_path, first, then, middle):
    """An epoch, or part of it, with so many, the rest with others, each step of the same two batches: all the same."""
    how = {1: ["accumulate=2"], 2: ["--processes", "2"]}
    code, err = train(recipe, tmp_path / "whole", "accumulate=2")
    assert code == 0, err
    assert train(recipe, tmp_path / "cut", "epochs=1", "save_every=1", *how[first])[0] == 0
    kept = sorted((tmp_path / "cut" / "checkpoints").glob("step-*"))
    assert json.loads((kept[-2] / "place.json").read_text())["batch"] > 0, "the last but one is within the epoch"
    if middle:
        shutil.rmtree(kept[-1])
    code, err = train(recipe, tmp_path / "cut", "--resume", *how[then])
    assert code == 0, err
    whole, cut = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    for name, value in whole.items():
        assert torch.allclose(value, cut[name], atol=2e-6), name


def test_what_is_wrong_is_told_once(recipe, tmp_path):
    code, err = train(recipe, tmp_path / "x", "--processes", "2", "epoch=3")
    assert code == 2 and "did you mean 'epochs'" in err and err.count("\n") == 1
    code, err = train(recipe, tmp_path / "x", "--gpus", "all")
    assert code == 2 and "give numbers" in err and err.count("\n") == 1
