"""Recipes: every key checked, overrides, and one clear line for what is wrong."""

from pathlib import Path

import pytest
import yaml

from xllm.config import Recipe, load_recipe, to_yaml, validate
from xllm.errors import ConfigError

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny.yaml"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid_and_survive_a_round_trip(path):

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
    with pytest.raises(ConfigError, match=r"recognizer \(--stage 1 --modality speech\)"):
        recipe.stage(3, "speech")


def test_a_stage_is_chosen_by_its_name_where_numbers_are_not_enough(tmp_path):
    stage = "{stage: 1, train: [x.jsonl], output: o"
    stages = f"first: {stage}}}, masr: {stage}, modality: masr}}, again: {stage}}}"
    (tmp_path / "r.yaml").write_text(f"name: r\nstages: {{{stages}}}\n")
    recipe = load_recipe(tmp_path / "r.yaml", ["lr=0.5"], "again")
    assert recipe.stage("again", None) is recipe.stages["again"] and recipe.stage(1, "masr") is recipe.stages["masr"]
    assert [stage.lr == 0.5 for stage in recipe.stages.values()] == [False, False, True]
    with pytest.raises(ConfigError, match=r"ambiguous.*first \(--stage 1 --modality speech\), masr \(--stage 1"):
        recipe.stage(1, "speech")
    for name, modality in (("agian", None), ("again", "masr")):
        with pytest.raises(ConfigError, match="is not in the recipe"):
            recipe.stage(name, modality)


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
        ("runs/third/b",),
        (Path("y.jsonl"),),
    )
    (tmp_path / "loop.yaml").write_text("base: loop.yaml\nname: loop\n")
    with pytest.raises(ConfigError, match="'base' names another recipe"):
        load_recipe(tmp_path / "loop.yaml")
    (tmp_path / "lost.yaml").write_text("base: nowhere.yaml\nname: lost\n")
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        load_recipe(tmp_path / "lost.yaml")


@pytest.mark.parametrize(
    "override",
    [
        *("epochs=0 batch_cost=0 max_cost=-1 window=0 accumulate=0 workers=-1 views=0 flat_start=-1 average=0").split(),
        *("log_every=0 save_every=0 lr=0 lr=-1 lr=.nan lr=.inf clip=-1 weight_decay=-0.1 betas=[0.9,1.0]").split(),
        *("seed=-1 seed=4294967296 train=[] cache_gb=0 gpus=0 schedule.warmup=-1 schedule.decay=0").split(),
        *("schedule.min_lr=0.1 schedule.start_lr=0.1 schedule.kind=constant schedule.min_lr=0").split(),
        "schedule={kind: cosine}",
        "schedule={warmup: 3, decay: 20}",
        *(
            f"model.recognizer.encoder.{change}"
            for change in "mels=0 width=225 heads=0 kernel=4 blocks=0 pool_after=[7] pool_after=[2,2] dropout=1".split()
        ),
        "model.recognizer.encoder.pretrained=openai/whisper-base",
        "model.recognizer.cif.kernel=2",
        *(
            f"model.recognizer.decoder.{change}"
            for change in "width=-256 visual_blocks=[4] visual_blocks=[0] visual_blocks=[3] visual_width=0 "
            "pretrained=openai/whisper-base".split()
        ),
        *("model.recognizer.label_smoothing=1 model.recognizer.ctc_weight=-1 model.frames=0").split(),
        *("model.speech.heads=5 model.speech.max_tokens=0 model.speech.text_weight=.nan").split(),
        *("model.vision.size=0 model.vision.std=[0,1,1] model.vision.redraw=1.5 model.vision.heads=5").split(),
        *("model.image.queries=0 model.image.dropout=-0.1 model.llm.heads=3 model.llm.layers=0").split(),
        *("lora.rank=0 lora.alpha=0 lora.dropout=1").split(),
    ],
)
def test_values_that_do_harm_are_refused(override):
    with pytest.raises(ConfigError) as caught:
        load_recipe(TINY, [override], stage=1, modality="speech")
    key = override.partition("=")[0].rpartition(".")[2]
    assert key in str(caught.value) and "\n" not in str(caught.value)


def test_whispers_blocks_are_as_wide_as_the_frames_they_attend_to():
    blocks = "{form: whisper, width: 64, ffn: 64, heads: 4, blocks: 1, visual_blocks: [], linguistic_blocks: []}"
    with pytest.raises(ConfigError, match="decoder.width is 64, encoder.width 224"):
        load_recipe(TINY, [f"model.recognizer.decoder={blocks}"], stage=1, modality="speech")


def test_without_a_schedule_the_rate_is_constant():
    stage = load_recipe(TINY, ["schedule={}"], stage=1, modality="speech").stage(1, "speech")
    assert stage.schedule.kind == "constant" and stage.schedule.end is None
    assert load_recipe(TINY, ["clip=0"], stage=1, modality="speech").stage(1, "speech").clip == 0


def test_stages_that_are_no_mapping_are_told(tmp_path):
    (tmp_path / "r.yaml").write_text("name: r\nstages: [a]\n")
    with pytest.raises(ConfigError, match="stages"):
        load_recipe(tmp_path / "r.yaml", ["lr=1"], 1)


@pytest.mark.parametrize("name", ["lora", "train", "cache"])
def test_a_stage_may_be_called_as_a_key_is(tmp_path, name):
    (tmp_path / "r.yaml").write_text(f"name: r\nstages: {{{name}: {{stage: 1, train: [x], output: o, lrr: 1}}}}\n")
    with pytest.raises(ConfigError, match=f"'stages.{name}.lrr'; did you mean 'lr'"):
        load_recipe(tmp_path / "r.yaml")
