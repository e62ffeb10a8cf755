"""Several processes train as one: the weights of a single process that accumulates as many batches."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
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


def check_alike(one, two):
    """The same weights, but for sums in another order, which Adam magnifies where a gradient is next to nothing."""
    one, two = (load_tensors(folder / "model.safetensors") for folder in (one, two))
    for name, value in one.items():
        assert (value - two[name]).abs().mean() < 1e-5, name  # a batch left out would change each by some 1e-3


def test_two_processes_are_one_that_accumulates(recipe, tmp_path):
    """Where an epoch's batches are odd in number, too: nobody waits, and none is left out."""
    recipe.write_text(recipe.read_text().replace("batch_cost: 90", "batch_cost: 50"))
    assert batches(recipe) % 2 == 1
    for name, arguments in (("one", ["accumulate=2"]), ("two", ["--processes", "2"])):
        code, err = train(recipe, tmp_path / name, *arguments)
        assert code == 0, err
    check_alike(tmp_path / "one", tmp_path / "two")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [entry["step"] for entry in logs[0]] == [entry["step"] for entry in logs[1]]


@pytest.mark.parametrize(("first", "then", "middle"), [(1, 2, False), (2, 1, True)])
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
    check_alike(tmp_path / "whole", tmp_path / "cut")


def test_what_is_wrong_is_told_once(recipe, tmp_path):
    code, err = train(recipe, tmp_path / "x", "--processes", "2", "epoch=3")
    assert code == 2 and "did you mean 'epochs'" in err and err.count("\n") == 1
    code, err = train(recipe, tmp_path / "x", "--processes", "2", "max_cost=1")
    assert code == 2 and err.startswith("error: no training sample can be used") and err.count("\n") == 1
    code, err = train(recipe, tmp_path / "x", "--processes", "2", "train=[none.jsonl]")
    assert code == 1 and err.startswith("error: none.jsonl: no such manifest") and err.count("\n") == 1


@pytest.mark.parametrize(
    "whom, how, code, message",
    [
        ("worker", signal.SIGKILL, 1, r"error: process [01] ended with code -9; was there too little memory\?"),
        ("parent", signal.SIGINT, 130, ""),
    ],
)
def test_a_sudden_end_is_one_line(recipe, tmp_path, whom, how, code, message):
    run = [
        sys.executable,
        "-m",
        "xllm_cli.main",
        "train",
        recipe,
        f"output={tmp_path}/x",
        "epochs=5000",
        "--stage",
        "0",
    ]
    run += ["--device", "cpu", "--processes", "2", "--quiet"]
    parent = subprocess.Popen(run, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "x" / "log.jsonl").exists() and parent.poll() is None:
            time.sleep(0.1)
        workers = psutil.Process(parent.pid).children()
        os.kill(parent.pid if whom == "parent" else workers[1].pid, how)
        _, err = parent.communicate(timeout=60)
    finally:
        parent.kill()
    assert parent.returncode == code and re.fullmatch(message, err.strip()), err
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)


def test_gpus_are_refused_where_there_are_none(recipe, tmp_path):
    for gpus in ("8", "all"):
        done = subprocess.run(
            [sys.executable, "-m", "xllm_cli.main", "train", recipe, "--stage", "0", "--gpus", gpus],
            cwd=ROOT, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        assert done.returncode == 2 and "no CUDA GPU is usable here" in done.stderr and done.stderr.count("\n") == 1


def test_two_processes_say_it_once_and_drop_into_one_file(recipe, tmp_path):
    code, err = train(recipe, tmp_path / "x", "--processes", "2", "epochs=1", "max_cost=33")
    assert code == 0 and err.count("saved") == 1 and err.count("samples,") == 1
    said = int(re.search(r"(\d+) dropped", err)[1])
    assert said and len((tmp_path / "x" / "dropped.jsonl").read_text().splitlines()) == said
    done = command(recipe, "--processes", "2", "--dry-run")
    assert done.returncode == 0 and json.loads(done.stdout)["samples"] > 0
