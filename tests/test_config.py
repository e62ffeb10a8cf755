"""Recipes: every key checked, overrides, and one clear line for what is wrong."""

from pathlib import Path

import pytest

from xllm.config import Recipe, load_recipe, to_yaml, validate
from xllm.errors import ConfigError

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny.yaml"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid_and_survive_a_round_trip(path):
    import yaml

    recipe = load_recipe(path)
    assert validate(Recipe, yaml.safe_load(to_yaml(recipe)), "again") == recipe


def test_unknown_key_names_the_nearest():
    with pytest.raises(
        ConfigError, match=r"unknown key 'stages\.recognizer\.weight_decy'; did you mean 'weight_decay'"
    ):
        load_recipe(TINY, ["weight_decy=0.1"], stage=1, modality="speech")
    with pytest.raises(ConfigError, match="model.recognizer.encoder.widht'; did you mean 'width'"):
        load_recipe(TINY, ["model.recognizer.encoder.widht=3"])
    with pytest.raises(ConfigError, match="model.vision.widht'; did you mean 'width'"):
        load_recipe(TINY, ["model.vision.widht=3"])
    with pytest.raises(ConfigError, match="lora.rnk'; did you mean 'rank'"):
        load_recipe(TINY, ["lora.rnk=3"], stage=2, modality="speech")


def test_overrides_reach_the_chosen_stage_or_any_path():
    recipe = load_recipe(TINY, ["lr=0.5", "model.llm.layers=9", "schedule.warmup=7"], stage=2, modality="speech")
    stage = recipe.stage(2, "speech")
    assert (stage.lr, stage.schedule.warmup, recipe.model.llm.layers) == (0.5, 7, 9)
    assert recipe.stage(1, "speech").lr != 0.5


@pytest.mark.parametrize(
    "override, message",
    [
        ("lr", "key=value"),
        ("lr=fast", "lr"),
        ("model.recognizer.encoder.width.x=1", "is a value"),
    ],
)
def test_bad_overrides_are_one_line(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(TINY, [override], stage=1, modality="speech")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(ConfigError, match="missing.yaml"):
        load_recipe(tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="mapping"):
        load_recipe(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_recipe(tmp_path / "broken.yaml")


def test_a_stage_that_is_not_there_says_what_is():
    recipe = load_recipe(TINY)
    with pytest.raises(ConfigError, match="--stage 1 --modality speech"):
        recipe.stage(3, "speech")


def test_configuration_is_frozen():
    recipe = load_recipe(TINY)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 2


def test_a_recipe_may_say_only_what_differs_from_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "name: base\nmodel: {frames: 4, llm: {width: 64}}\n"
        "stages:\n  a: {stage: 2, train: [x.jsonl], output: runs/$name/a, lr: 1.0, start_from: [runs/$name/b]}\n"
    )
    (tmp_path / "other.yaml").write_text(
        "base: base.yaml\nname: other\nmodel: {llm: {layers: 2}}\nstages: {a: {train: [y.jsonl]}}\n"
    )
    (tmp_path / "third.yaml").write_text("base: other.yaml\nname: third\nmodel: {frames: 5}\n")
    base, third = load_recipe(tmp_path / "base.yaml"), load_recipe(tmp_path / "third.yaml")
    assert (base.stages["a"].output, base.model.llm.layers) == (Path("runs/base/a"), 6)
    stage = third.stages["a"]
    assert (third.model.frames, third.model.llm.width, third.model.llm.layers) == (5, 64, 2)
    assert (stage.output, stage.start_from, stage.train) == (
        Path("runs/third/a"),
        (Path("runs/third/b"),),
        (Path("y.jsonl"),),
    )
    (tmp_path / "loop.yaml").write_text("base: loop.yaml\nname: loop\n")
    with pytest.raises(ConfigError, match="'base' names another recipe"):
        load_recipe(tmp_path / "loop.yaml")
    (tmp_path / "lost.yaml").write_text("base: nowhere.yaml\nname: lost\n")
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        load_recipe(tmp_path / "lost.yaml")
