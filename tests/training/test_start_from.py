"""Stages that start from the packaged system: by name, by path, with layers that it lacks; recipes without a model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from xllm import PACKAGED, checkpoint
from xllm.config import load_recipe
from xllm.errors import ConfigError
from xllm.media import load_audio
from xllm.model import XLLM
from xllm.training.loop import Trainer
from xllm.training.stages import build

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def recipe(tmp_path):
    """A recipe of stages that go on from the packaged system, on one utterance without a reading."""
    shutil.copy(EXAMPLES / "wait.opus", tmp_path)
    row = next(r for r in map(json.loads, (EXAMPLES / "examples.jsonl").open()) if r["id"] == "wait")
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    common = {"train": [f"{tmp_path}/mine.jsonl"], "start_from": [PACKAGED], "lr": 1e-5}
    stages = {
        "recognizer": {"stage": 1, "output": f"{tmp_path}/recognizer", **common},
        "speech": {"stage": 2, "output": f"{tmp_path}/speech", **common},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"name": "mine", "stages": stages}))
    return tmp_path / "r.yaml"


def train(recipe, stage, *overrides):
    loaded = load_recipe(recipe, list(overrides), stage)
    config = loaded.stage(stage, None)
    Trainer(loaded, config, torch.device("cpu"), lambda *_: None).run()
    return config.output


def test_a_recipe_without_a_model_has_that_of_what_it_starts_from(recipe):
    card = checkpoint.read_card(checkpoint.find(PACKAGED))
    assert load_recipe(recipe).model == card.model
    assert load_recipe(recipe, ["model.frames=3"]).model == card.model.model_copy(update={"frames": 3})


def test_parts_are_those_of_the_package_in_float32(recipe, caplog):
    loaded = load_recipe(recipe)
    for name in (PACKAGED, str(checkpoint.BUNDLES / PACKAGED)):
        config = loaded.stage(2, None).model_copy(update={"start_from": (name,)})
        model = build(loaded, config).model
        own = checkpoint.load_tensors(checkpoint.find(name) / "model.safetensors")
        assert own["speech.adapter.weight"].dtype == torch.float16
        assert torch.equal(model.speech.adapter.weight, own["speech.adapter.weight"].float())
    assert not caplog.records, "nothing begins new"


@pytest.mark.parametrize("stage", [1, 2])
def test_what_was_trained_from_the_package_is_a_whole_system(recipe, monkeypatch, stage):
    output = train(recipe, stage)
    assert checkpoint.read_card(output).frozen == (PACKAGED,), "wherever it is used, on whichever machine"
    monkeypatch.chdir(recipe.parent)
    trained, packaged = (XLLM.from_pretrained(name) for name in (output.name, PACKAGED))
    for engine in ("cif", "xllm"):
        texts = [m.transcribe([load_audio(EXAMPLES / "wait.opus")], engine)[0].text for m in (trained, packaged)]
        assert texts[0] == texts[1] != ""


def test_layers_that_the_package_lacks_begin_new_and_are_named(recipe, caplog):
    lacking = ["model.recognizer.decoder.visual_blocks=[2]", "model.recognizer.decoder.linguistic_blocks=[3]"]
    output = train(recipe, 2, *lacking)
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"not in {PACKAGED}" in said and "recognizer.decoder.blocks.1.cross" in said and "blocks.2.cross" in said
    (text,) = XLLM.from_pretrained(output).transcribe([load_audio(EXAMPLES / "wait.opus")])
    assert text.text, "they change nothing yet"
    with pytest.raises(ConfigError, match="no weights for recognizer.decoder.blocks.3"):
        build(*(lambda r: (r, r.stage(2, None)))(load_recipe(recipe, ["model.recognizer.decoder.blocks=4"])))


def test_parts_that_no_checkpoint_has_begin_new_and_are_named(recipe, caplog):
    image = ["stages.recognizer.stage=0", "stages.recognizer.modality=image"]
    loaded = load_recipe(recipe, image)
    build(loaded, loaded.stage(0, "image"))
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"not in {PACKAGED}, so it begins new: naming"
