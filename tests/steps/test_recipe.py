"""Data recipes: checked before anything is done, followed in order, left alone where done."""

import json
from pathlib import Path

import pytest
import yaml

from xllm.corpora.table import CORPORA
from xllm.errors import ConfigError, XLLMError
from xllm.steps.recipe import follow, load_tasks
from xllm.steps.table import STEPS

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "data").glob("*.yaml"))
CHAIN = """
name: chain
steps:
  - {do: minigpt4, raw: pictures, to: english}
  - {do: translate, from: english/train.jsonl, to: chinese.jsonl, model: GIVEN}
  - {do: filter, from: chinese.jsonl, to: unique.jsonl, unique: [response]}
  - {do: draw, from: unique.jsonl, to: one.jsonl, count: 1}
  - {do: draw, from: unique.jsonl, to: other.jsonl, count: 5, without: [one.jsonl]}
  - {do: instructions, to: instructions.jsonl, describe: unique.jsonl, counts: {describe: 2}}
"""


@pytest.fixture
def chain(tmp_path):
    raw = tmp_path / "raw" / "pictures"
    (raw / "image").mkdir(parents=True)
    for number in range(4):
        (raw / "image" / f"{number}.jpg").touch()
    captions = [{"image_id": str(n), "caption": "a dog" if n < 2 else f"a cat {n}"} for n in range(5)]
    (raw / "filter_cap.json").write_text(json.dumps({"annotations": captions}))
    (tmp_path / "given.json").write_text(json.dumps({"a dog": "狗", "a cat 2": "猫二", "a cat 3": "猫三"}))
    (tmp_path / "chain.yaml").write_text(CHAIN.replace("GIVEN", str(tmp_path / "given.json")))
    return tmp_path


def done(chain, *overrides, **options):
    tasks = load_tasks(chain / "chain.yaml", overrides)
    reports = follow(tasks, chain / "raw", chain / "out", **options)
    return {str(path.relative_to(chain / "out")): report for path, report in reports}


def test_a_recipe_is_followed(chain):
    reports = done(chain)
    assert {name: report.kept for name, report in reports.items()} == {
        "english/train.jsonl": 4,
        "chinese.jsonl": 4,
        "unique.jsonl": 3,
        "one.jsonl": 1,
        "other.jsonl": 2,
        "instructions.jsonl": 2,
    }
    rows = [json.loads(line) for line in (chain / "out" / "unique.jsonl").open()]
    assert [row["response"] for row in rows] == ["狗", "猫二", "猫三"]
    assert rows[0]["image"] == "../raw/pictures/image/0.jpg"


def test_done_is_left_alone_and_a_change_is_told(chain):
    first = done(chain)
    times = {path: path.stat().st_mtime_ns for path in (chain / "out").rglob("*.jsonl")}
    assert done(chain) == first
    assert {path: path.stat().st_mtime_ns for path in times} == times
    with pytest.raises(ConfigError, match="one.jsonl: is there, made otherwise .options; see one.report.json"):
        done(chain, "draw.seed=2")


def test_what_depends_on_a_changed_manifest_is_told(chain):
    done(chain)
    (chain / "out" / "unique.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="one.jsonl: is there, made otherwise .from"):
        done(chain)


def test_overrides_and_limit(chain):
    assert done(chain, "draw.count=2", limit=3)["one.jsonl"].kept == 2
    for wrong in ("count=2", "draw.count", "shard.per_shard=3"):
        with pytest.raises(ConfigError, match="step.key=value"):
            load_tasks(chain / "chain.yaml", [wrong])


def test_a_chain_stops_where_everything_fails(chain):
    (chain / "r.yaml").write_text(
        "name: r\nsteps:\n  - {do: minigpt4, raw: pictures, to: english}\n"
        "  - {do: check, from: english/train.jsonl, to: a.jsonl}\n"
        "  - {do: draw, from: a.jsonl, to: b.jsonl, count: 1}\n"
    )
    with pytest.raises(XLLMError, match="a.jsonl: all 4 inputs failed .damaged; a.dropped.jsonl has more"):
        list(follow(load_tasks(chain / "r.yaml"), chain / "raw", chain / "out"))
    assert not (chain / "out" / "b.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{do: fly, to: a.jsonl}", "'do' is one of aishell-1"),
        ("{do: draw, from: a.jsonl, count: 1}", "needs 'to'"),
        ("{do: draw, from: a.jsonl, to: b.jsonl, count: 1, seeds: 2}", "did you mean 'seed'"),
        ("{do: draw, from: a.jsonl, to: b.jsonl}", "count: Field required"),
        ("{do: filter, from: a.jsonl, to: b.jsonl, min_side: many}", "min_side"),
        ("{do: coco, to: a, split: [train2014]}", "did you mean 'splits'"),
        ("{do: synthesize, from: a.jsonl, to: b.jsonl}", "either a model or a command"),
    ],
)
def test_mistakes_are_found_before_anything_is_done(tmp_path, line, words):
    (tmp_path / "r.yaml").write_text(f"name: r\nsteps:\n  - {line}\n")
    with pytest.raises(ConfigError, match=words):
        load_tasks(tmp_path / "r.yaml")


def test_a_step_without_its_manifest(tmp_path):
    (tmp_path / "r.yaml").write_text("name: r\nsteps:\n  - {do: check, to: b.jsonl}\n")
    with pytest.raises(ConfigError, match="needs a manifest"):
        list(follow(load_tasks(tmp_path / "r.yaml"), tmp_path, tmp_path / "out"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_are_whole(recipe):
    """Each loads, and each step's input is an earlier one's output (or another recipe's, for VSDial-CN)."""
    overrides = ["synthesize.model=my/vits"] if "vsdial" in recipe.stem else []
    made: set[str] = set()
    for task in load_tasks(recipe, overrides):
        if task.do in STEPS:
            needed = [str(task.source)] if task.source else []
            needed += [str(value) for value in task.options.model_dump().values() if str(value).endswith(".jsonl")]
            assert not {name for name in needed if name not in made and not name.startswith("vsdial-cn/")}, task
            made.add(str(task.to))
        else:
            made |= {f"{task.to}/{split}.jsonl" for split in CORPORA[task.do].splits}
    assert made and yaml.safe_load(recipe.read_text())["name"] in ("paper", "vsdial-cn")
