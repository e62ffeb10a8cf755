"""Systems to give away: everything trained in one folder, the same answers, a card that says whose what is."""

import io
import json

import pytest
import torch
import yaml
from small_models import small_qwen2, with_code

from xllm import checkpoint
from xllm.config import ContextConfig, LLMConfig, to_yaml
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


@pytest.fixture
def around_qwen(small_system, small_config, runs, tmp_path):
    """An interface around a published language model in a folder, trained beside the recogniser of another system.

    That system has a language model of its own, and an interface to it.
    """
    whole = tmp_path / "base"
    export(runs, whole, bits=8)
    model = small_config.model_copy(update={"llm": LLMConfig(name=str(small_qwen2(tmp_path / "qwen2", width=24)))})
    torch.manual_seed(0)
    system = XLLM(model, ("recognizer", "speech", "llm"))
    system.recognizer.load_state_dict(small_system.recognizer.state_dict())
    values = checkpoint.tensors(system, ("speech",))
    checkpoint.save(tmp_path / "runs" / "third", "small-qwen", model, values, frozen=(tmp_path / "runs" / "first",))
    return tmp_path / "runs" / "third"


def test_interfaces_alone_are_given_away_beside_the_system_that_has_their_encoders(around_qwen, tmp_path, caplog):
    base, out = tmp_path / "base", tmp_path / "out"
    counts = export(around_qwen, out, bits=32, llm="Qwen/Qwen2.5-0.5B-Instruct", beside=str(base))
    assert counts.keys() == {"speech"} and not caplog.records
    card = (out / "README.md").read_text()
    assert "base_model: Qwen/Qwen2.5-0.5B-Instruct" in card and f"| recognizer | frozen | {base}" in card
    with pytest.raises(ConfigError, match="hf download Qwen/Qwen2.5-0.5B-Instruct; with a folder of it: .*--llm"):
        XLLM.from_pretrained(out)

    mine = tmp_path / "mine"  # by whom a folder has been downloaded
    export(out, mine, bits=32, llm=str(tmp_path / "qwen2"), beside=str(base))
    assert "others need --llm" in caplog.text
    theirs, own = XLLM.from_pretrained(mine), XLLM.from_pretrained(around_qwen)
    assert torch.equal(theirs.speech.adapter.weight, own.speech.adapter.weight) and theirs.llm.width == 24
    wave = [torch.randn(16000)]
    assert theirs.transcribe(wave, "cif")[0].text == XLLM.from_pretrained(base).transcribe(wave, "cif")[0].text


def test_encoders_are_left_only_where_they_are_the_same(around_qwen, small_system, small_config, tmp_path):
    with torch.no_grad():
        small_system.recognizer.cif.conv.weight.mul_(1.5)
    checkpoint.save(tmp_path / "b", "other", small_config, checkpoint.tensors(small_system, ("recognizer",)))
    checkpoint.save(tmp_path / "c", "none", small_config, checkpoint.tensors(small_system, ("speech",)))
    for beside, said in (("b", "its recognizer is another"), ("c", "none of the encoders")):
        with pytest.raises(ConfigError, match=said):
            export(around_qwen, tmp_path / "out", beside=str(tmp_path / beside))
    with pytest.raises(ConfigError, match="language model is its own"):
        export(tmp_path / "base", tmp_path / "out", llm="Qwen/Qwen2.5-0.5B-Instruct")
    assert not (tmp_path / "out").exists()
