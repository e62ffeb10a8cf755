"""`xllm bench`: every figure is there, is a number and makes sense."""

import json
import math
from pathlib import Path

import pytest
import torch

from xllm.bench import bench
from xllm.errors import ConfigError

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_figures_add_up():
    figures = bench("tiny", [str(path) for path in sorted(EXAMPLES.glob("*.opus"))], torch.device("cpu"), 2)
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    assert 5 < figures["speech, s"] < 30
    assert figures["tokens a pass"] >= 1 and figures["LLM passes an utterance"] >= 1
    parts = ("fbank", "encoder", "CIF")
    assert figures["whole, real-time factor"] > max(figures[f"{part}, real-time factor"] for part in parts)
    with pytest.raises(ConfigError, match="needs recordings"):
        bench("tiny", [], torch.device("cpu"))


def test_the_command_prints_a_table_or_json():
    import subprocess
    import sys

    run = [sys.executable, "-m", "xllm_cli.main", "bench", EXAMPLES / "wait.opus"]
    done = subprocess.run([*run, "--json"], capture_output=True, text=True, cwd=EXAMPLES.parent, check=True)
    assert json.loads(done.stdout)["device"] == "cpu" and "import, s" in json.loads(done.stdout)
