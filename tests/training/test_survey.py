"""Recipes counted without weights or data: what the paper says of its own parts, and every recipe here."""

from pathlib import Path

import pytest

from xllm.config import load_recipe
from xllm.errors import ConfigError
from xllm.model import XLLM
from xllm.training.survey import survey

RECIPES = Path(__file__).parents[2] / "recipes"
# Not around the paper's encoders, some with data of one's own.
SMALL = ("tiny", "base", "base-qwen2.5-0.5b", "demo", "aishell", "finetune")


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_counts(recipe):
    loaded = load_recipe(recipe)
    parts, stages = survey(loaded)
    assert loaded.name in (recipe.stem, "mine") and all(parts.values()) and len(stages) == len(loaded.stages)
    for stage in stages:
        assert stage.trained > 0 and stage.weights > 16 * stage.trained - 1
        assert stage.misfit is None, "the schedule ends with the run"
        assert stage.samples or recipe.stem in SMALL, "without samples there is nothing to compare it with"
        if stage.samples:
            rounded = stage.steps * stage.batch
            assert 0 <= rounded - stage.samples < stage.batch
    if recipe.stem == "paper":
        recogniser = stages[0].steps * stages[0].epochs
        assert recogniser == 191_016, "A.3's schedule of 180,000 steps: Table 7's batch of 128 is each GPU's"
        # its authors count ChatGLM's table of words once, where the head is another one here
        whole = sum(parts.values()) - 130528 * 4096 - parts["context"]
        assert whole / 1e9 == pytest.approx(7.6, abs=0.05), "paper A.3"
    if recipe.stem not in SMALL:
        assert parts["context"] / 1e6 == pytest.approx(85.8 + 101.7, abs=0.1), "CLIP ViT-B/16, bert-base-chinese"
        masr = next(stage for stage in stages if stage.modality == "masr")
        assert masr.frozen + masr.trained == parts["recognizer"] + parts["context"], "no ViT-g, no language model"
        assert parts["vision"] / 1e6 == pytest.approx(986, abs=0.5), "ViT-g, 39 of 40 blocks (FACTS 4)"
        width = loaded.model.llm.sizes.get("hidden_size", 4096)
        assert (parts["image"] - 769 * width) / 1e6 == pytest.approx(105, abs=0.5), "BLIP-2's Q-Former (FACTS 4)"


def test_counts_are_those_of_a_built_system(small_config):
    from xllm.training.survey import meta_parts

    built = XLLM(small_config, ("recognizer", "speech", "llm"))
    counted = {name: sum(p.numel() for p in part.parameters()) for name, part in meta_parts(small_config).items()}
    assert counted == {name: sum(p.numel() for p in getattr(built, name).parameters()) for name in counted}
    assert all(p.is_meta for part in meta_parts(small_config).values() for p in part.parameters())


def test_a_language_model_that_cannot_be_counted_is_told(tmp_path):
    (tmp_path / "r.yaml").write_text("name: r\nmodel: {llm: {name: nobody/nothing}}\n")
    with pytest.raises(ConfigError, match="llm.sizes"):
        survey(load_recipe(tmp_path / "r.yaml"))
