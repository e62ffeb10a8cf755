"""Systems to give away: everything trained in one folder, the same answers, a card that says whose what is."""

import io
import json

import pytest
import torch
import yaml
from small_models import with_code

from xllm import checkpoint
from xllm.config import ContextConfig, to_yaml
from xllm.errors import ConfigError
from xllm.model import XLLM
from xllm.sharing import export, model_card


@pytest.fixture
def runs(small_system, small_config, tmp_path):
    """A recogniser and a language model of one run, an interface of a later one, which has a recipe."""
    first, second = tmp_path / "runs" / "first", tmp_path / "runs" / "second"
    checkpoint.save(first, "small", small_config, checkpoint.tensors(small_system, ("recognizer", "llm")))
    values = checkpoint.tensors(small_system, ("speech",))
    checkpoint.save(second, "small", small_config, values, frozen=(first,))
    rows = [{"id": str(n), "speech": "a.wav", "response": "天", "source": "aishell-1"} for n in range(7)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage = {"stage": 2, "train": [str(tmp_path / "train.jsonl"), str(tmp_path / "gone.jsonl")], "output": str(second)}
    recipe = {"name": "small", "model": yaml.safe_load(to_yaml(small_config)), "stages": {"speech": stage}}
    (second / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return second


def test_an_exported_system_is_whole_and_the_same(runs, small_system, tmp_path):
    counts = export(runs, tmp_path / "out", bits=32)
    assert counts.keys() == {"recognizer", "speech", "llm"}
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    there = XLLM.from_pretrained(tmp_path / "out")
    for name, value in small_system.named_parameters():
        assert torch.equal(dict(there.named_parameters())[name], value), name
    with pytest.raises(ConfigError, match="is not empty"):
        export(tmp_path / "elsewhere" / "first", tmp_path / "out")


def test_halves_are_half_as_large(runs, tmp_path):
    export(runs, tmp_path / "half")
    export(runs, tmp_path / "whole", bits=32)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert 0.45 < sizes[0] / sizes[1] < 0.6
    XLLM.from_pretrained(tmp_path / "half")


def test_the_card_says_what_it_was_trained_on_and_how_good_it_is(runs, tmp_path):
    (tmp_path / "report.md").write_text("| CER | 7.5 |\n", encoding="utf-8")
    export(runs, tmp_path / "out", report=tmp_path / "report.md")
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "xllm" and "base_model" not in front
    assert "7 rows (AISHELL-1, Apache 2.0)" in card and "gone.jsonl" in card and "| CER | 7.5 |" in card
    with pytest.raises(ConfigError, match="cannot be read"):
        export(runs, tmp_path / "other", report=tmp_path / "none.md")
    assert not (tmp_path / "other").exists()


def test_frozen_parts_that_live_elsewhere_are_named_with_their_licence(small_config):
    model = small_config.model_copy(
        update={"llm": small_config.llm.model_copy(update={"name": "Qwen/Qwen3-4B", "revision": "abc"})}
    )
    card = model_card("x", model, {"speech": 5}, iter(()))
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "Qwen/Qwen3-4B"
    assert "| llm | frozen | Qwen/Qwen3-4B, licence: Apache 2.0 |" in card


def test_encoders_of_context_are_named_where_a_recogniser_attends_to_them(small_config):
    context = {"visual": "vit_base_patch16_clip_quickgelu_224.openai", "linguistic": {"name": "bert-base-chinese"}}
    model = small_config.model_copy(update={"context": ContextConfig.model_validate(context)})
    assert "bert-base-chinese" not in model_card("x", model, {"recognizer": 5}, iter(()))
    decoder = small_config.recognizer.decoder.model_copy(update={"visual_blocks": (1,)})
    attending = small_config.recognizer.model_copy(update={"decoder": decoder})
    card = model_card("x", model.model_copy(update={"recognizer": attending}), {"recognizer": 5}, iter(()))
    assert "| context, images | frozen | vit_base_patch16_clip_quickgelu_224.openai, licence: MIT (CLIP) |" in card
    assert "| context, captions | frozen | bert-base-chinese, licence: Apache 2.0 |" in card


def test_a_hub_name_is_fetched_once_pinned_and_only_what_is_needed(monkeypatch, small_model):
    asked = []

    def snapshot(repository, revision, allow_patterns):
        asked.append((repository, revision))
        assert not any("bin" in pattern or pattern == "*" for pattern in allow_patterns)
        return str(small_model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert checkpoint.find("somebody/small") == small_model and checkpoint.find("somebody/small@v1") == small_model
    assert asked == [("somebody/small", None), ("somebody/small", "v1")]


def test_a_missing_download_is_explained(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def nowhere(*_, **__):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", nowhere)
    with pytest.raises(ConfigError, match="hf download somebody/small --revision v1"):
        checkpoint.find("somebody/small@v1")
    with pytest.raises(ConfigError, match="neither a folder nor a model of the package"):
        checkpoint.find("small")


def test_nothing_but_a_tokenizers_files_is_given_away(runs, tmp_path):
    (runs / "tokenizer" / "id_rsa").write_text("secret")
    export(runs, tmp_path / "out")
    given = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    tokenizer = {f"tokenizer/{n}" for n in ("units.txt", "syllables.txt", "tokenizer.json", "tokenizer_config.json")}
    assert given == {"README.md", "complete", "config.yaml", "model.safetensors", *tokenizer}
    assert "secret" not in "".join(path.read_text() for path in (tmp_path / "out" / "tokenizer").iterdir())


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer/units.txt", "model.safetensors", "recipe.yaml"])
def test_what_a_link_leads_to_is_not_given_away(runs, tmp_path, name):
    (runs / name).rename(tmp_path / "private")
    (runs / name).symlink_to(tmp_path / "private")
    with pytest.raises(ConfigError, match="leads out of its folder"):
        export(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_elsewhere_is_not_given_away(runs, tmp_path):
    (tmp_path / "runs" / ".ssh").mkdir()
    (tmp_path / "runs" / ".ssh" / "units.txt").write_text("secret")
    card = runs / "config.yaml"
    card.write_text(card.read_text().replace("tokenizer: tokenizer", "tokenizer: ../.ssh"))
    with pytest.raises(ConfigError, match="leads out of its folder"):
        export(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_revision_in_the_cache_is_pinned_and_no_code_beside_it_runs(runs, tmp_path, monkeypatch):
    hub = tmp_path / "hub" / "models--somebody--llm"
    with_code(hub / "snapshots" / "abc", tmp_path / "ran")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n1\n1\n"))
    for path in (runs, runs.parent / "first"):
        card = path / "config.yaml"
        card.write_text(card.read_text().replace("name: null", "name: somebody/llm"))
    export(runs, tmp_path / "out")
    assert checkpoint.read_card(tmp_path / "out").model.llm.revision == "abc"
    assert not (tmp_path / "ran").exists()
    assert "revision: abc" not in (runs / "config.yaml").read_text()
