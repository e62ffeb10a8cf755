"""A new modality is one file and one row: a robot's state (the paper's own example), from manifest to answer."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from xllm import checkpoint
from xllm.chat import Question, answer, see
from xllm.config import load_recipe
from xllm.errors import MediaError
from xllm.instructions import INSTRUCTIONS
from xllm.modalities import MODALITIES, Modality
from xllm.model import XLLM
from xllm.training import stages
from xllm.training.loop import Trainer
from xllm.training.stages import STAGES, Stage

# What would be xllm/robot.py -----------------------------------------------------------------------------------------

JOINTS = 4
ASKED = INSTRUCTIONS["asr"][0]


def load_state(source, config, generator):
    """Joint angles of each moment, radians: a text file of one moment a line -> [L, JOINTS]."""
    try:
        rows = [[float(angle) for angle in line.split()] for line in Path(source).read_text().splitlines()]
    except (OSError, ValueError):
        raise MediaError(f"{source}: not a robot's state; give one line of {JOINTS} angles a moment") from None
    return torch.tensor(rows)


class StateEncoder(nn.Module):
    """The frozen encoder: sines and cosines of the angles [L, JOINTS] -> [L, 2 * JOINTS]."""

    def forward(self, angles):
        return torch.cat([angles.sin(), angles.cos()], -1)


class StateInterface(nn.Module):
    """One embedding a moment."""

    def __init__(self, llm_width):
        super().__init__()
        self.adapter = nn.Linear(2 * JOINTS, llm_width)

    def forward(self, tokens, lengths):
        return self.adapter(tokens), lengths


ROW = Modality(
    tags=("<Robot>", "</Robot>"),
    encoder="joints",
    build_encoder=lambda config: StateEncoder(),
    build_interface=lambda config, encoder, llm_width: StateInterface(llm_width),
    load=load_state,
    tokens=lambda encoder, features: [encoder(angles) for angles in features],
)

# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def robot(monkeypatch):
    monkeypatch.setitem(MODALITIES, "robot", ROW)
    trained = Stage(("robot",), ("llm",), stages._response_loss, stages._responses)
    monkeypatch.setitem(STAGES, (2, "robot"), trained)


def test_a_robots_state_is_learned_and_answered(robot, world, monkeypatch):
    rows = []
    for i in range(8):
        raised = i % 2
        moments = [
            " ".join(str((1.5 if raised else -1.5) + 0.1 * (i + j + k)) for j in range(JOINTS)) for k in range(2)
        ]
        (world / f"{i}.state").write_text("\n".join(moments))
        response = "天" if raised else "地"
        rows.append({"id": f"r{i}", "robot": f"{i}.state", "instruction": ASKED, "response": response})
    (world / "robot.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(stage, modality, *overrides):
        recipe = load_recipe(world / "recipe.yaml", list(overrides), stage, modality)
        config = next(s for s in recipe.stages.values() if (s.stage, s.modality) == (stage, modality))
        trainer = Trainer(recipe, config, torch.device("cpu"), lambda *event: None)
        trainer.dev = trainer.training
        before = trainer.evaluate()["loss"]
        trainer.run()
        return before, trainer.evaluate()["loss"]

    # A random LLM is sure of nothing and hardly looks around; with larger weights it can be steered.
    recipe = load_recipe(world / "recipe.yaml")
    torch.manual_seed(0)
    llm = XLLM(recipe.model, ["llm"])
    with torch.no_grad():
        for p in llm.llm.model.parameters():
            p.mul_(10)
    checkpoint.save(world / "run0", "steerable", recipe.model, checkpoint.tensors(llm, ["llm"]))
    before, after = run(
        2, "robot", "stages.robot.stage=2", "stages.robot.modality=robot", f"stages.robot.train=[{world}/robot.jsonl]",
        f"stages.robot.start_from=[{world}/run0]", f"stages.robot.output={world}/run2r", "stages.robot.epochs=20",
        "stages.robot.batch_cost=2", "stages.robot.lr=0.03",
    )  # fmt: skip
    model = XLLM.from_pretrained(world / "run2r")
    seen = [Question(ASKED, {"robot": [see(model, "robot", world / f"{i}.state")]}) for i in range(8)]
    assert after < before - 1.0
    assert len(answer(model, seen, max_tokens=2)) == 8
    assert not torch.equal(seen[0].media["robot"][0], seen[1].media["robot"][0])
    with pytest.raises(MediaError, match="robot's state"):
        see(model, "robot", world / "0.png")
    opening = model.prompt.pieces(ASKED, ["speech", "robot"])
    assert opening[0] == "<Speech>" and opening[1] == "</Speech><Robot>"
