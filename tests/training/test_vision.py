"""Convolutional image encoders: frozen ones stay what they were, trained ones keep their statistics."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import timm_folder

from xllm import checkpoint
from xllm.config import load_recipe
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.sharing import export
from xllm.training.loop import Trainer


def trained(world, stage, modality, *overrides):
    """The model of a stage after its training."""
    recipe = load_recipe(world / "recipe.yaml", ["epochs=1", "average=1", *overrides], stage, modality)
    run = Trainer(recipe, recipe.stage(stage, modality), torch.device("cpu"), lambda *_: None)
    run.run()
    return run.model.model.eval()


@pytest.fixture
def interface(world, monkeypatch):
    """A run of stage 2 beside an encoder out of a folder, named by a path from here, on what stands in for images."""
    timm_folder("test_efficientnet", world / "timm")
    trained(world, 0, "text")
    monkeypatch.chdir(world)
    np.save("a.npy", np.random.default_rng(0).standard_normal((2, 256)))
    row = {"id": "a", "image": "a.npy", "instruction": "天？", "response": "天"}
    Path("standins.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    vision = "model.vision={name: test_efficientnet, pretrained: timm, size: 64, classes: true}"
    data = [f"start_from=[{world}/run0]", f"train=[{world}/standins.jsonl]", "augment=false"]
    trained(world, 2, "image", vision, *data)
    monkeypatch.chdir("/")
    return world / "run2i"


def tokens(model, world):
    pixels = [MODALITIES["image"].load(Path(world / f"{i}.png"), model.config, None) for i in range(3)]
    with torch.no_grad():
        return [model.encode([{"image": [one]}])[0]["image"][0] for one in pixels]


def test_a_frozen_encoder_stays_what_it_was_and_its_run_finds_it(interface, world):
    model, weights = XLLM.from_pretrained(interface), checkpoint.load_tensors(world / "timm" / "model.safetensors")
    for name, value in model.vision.vit.state_dict().items():
        assert torch.equal(value, weights[name]), name
    card = checkpoint.read_card(interface)
    assert card.parts == ("image",) and card.model.vision.pretrained == str(world / "timm")
    assert (card.model.vision.size, card.model.vision.mean) == (64, (0.485, 0.456, 0.406))


def test_an_encoder_that_nobody_else_has_is_exported(interface, world):
    wanted = tokens(XLLM.from_pretrained(interface), world)
    counts = export(interface, world / "whole", bits=32)
    export(interface, world / "half")
    shutil.rmtree(world / "timm")
    assert counts.keys() == {"llm", "image", "vision"}
    assert checkpoint.read_card(world / "whole").model.vision.pretrained is False
    for value, same in zip(tokens(XLLM.from_pretrained(world / "whole"), world), wanted, strict=True):
        assert torch.equal(value, same)
    for value, near in zip(tokens(XLLM.from_pretrained(world / "half"), world), wanted, strict=True):
        torch.testing.assert_close(value, near, atol=0.05, rtol=0.05)


def test_a_trained_encoder_keeps_its_statistics(world):
    model = trained(world, 0, "image", "model.vision={name: test_resnet, size: 64}")
    own = XLLM.from_pretrained(world / "run0i", parts={"vision"})
    assert own.vision.state_dict()["vit.bn1.num_batches_tracked"] > 0
    for name, value in model.vision.state_dict().items():
        assert torch.equal(own.vision.state_dict()[name], value), name
    for value, same in zip(tokens(own, world), tokens(model, world), strict=True):
        assert torch.equal(value, same)
