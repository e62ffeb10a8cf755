"""Tokens of pictures and films computed once are those that the encoder gives each time."""

from pathlib import Path

import pytest
import torch

from xllm.config import load_recipe
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.training.cache import Cache
from xllm.training.looks import Looks
from xllm.training.responses import ResponseExamples


@pytest.fixture
def model(world):
    torch.manual_seed(0)
    return XLLM(load_recipe(world / "recipe.yaml").model, ["llm", "image", "video"]).requires_grad_(False).eval()


@pytest.mark.parametrize(("modality", "file"), [("image", "1.png"), ("video", "1.gif")])
def test_they_are_the_encoders_and_computed_once(model, world, modality, file):
    path = str(world / file)
    broken = world / "broken"
    broken.write_bytes(b"nothing")
    calls = []

    def tokens(key, *paths):
        cache = Cache(world / "c")
        return Looks(modality, paths, model.config, model.vision, cache, key, lambda *told: calls.append(told))

    looks = tokens("a", path, str(broken), path)
    (direct,) = model.encode([{modality: [MODALITIES[modality].load(Path(path), model.config, None)]}])
    torch.testing.assert_close(looks[path], direct[modality][0], atol=2e-3, rtol=2e-3)  # kept in half precision
    assert list(looks.failed) == [str(broken)] and calls
    calls.clear()
    again = tokens("a", path, str(broken), path)
    assert torch.equal(again[path], looks[path]) and not calls
    tokens("b", path)
    assert calls, "other weights, other tokens"


def test_a_stage_that_augments_nothing_learns_from_them(model, world):
    manifests = (world / "films.jsonl", world / "seen.jsonl")
    keys = {"vision": "weights"}
    once, each = (
        ResponseExamples(manifests, model, ("image", "video"), 1, False, 0, Cache(world / "c"), keys, once=o)
        for o in (True, False)
    )
    items = range(len(once))
    assert not any(once.unusable(i) for i in items)
    batch, other = (e.collate([e.load(i, torch.Generator()) for i in items]) for e in (once, each))
    assert not any(batch["features"]) and not any(other["tokens"])
    losses = [model.response_loss(**b)["loss"] for b in (batch, other)]
    torch.testing.assert_close(*losses, atol=1e-3, rtol=1e-3)
