"""Checkpoints: whole or refused, safetensors only, and the weights come back."""

import pytest
import torch

from xllm import checkpoint
from xllm.errors import ConfigError
from xllm.model import XLLM


def test_what_is_loaded_transcribes_like_what_was_saved(small_system, small_model):
    loaded = XLLM.from_pretrained(small_model)
    waves = [torch.randn(24000) * 0.1, torch.randn(8000) * 0.1]
    for engine in ("cif", "xllm"):
        assert loaded.transcribe(waves, engine) == small_system.transcribe(waves, engine)
    for name, value in small_system.named_parameters():
        assert torch.equal(value, dict(loaded.named_parameters())[name])


def test_the_folder_moves_as_one(small_system, small_model, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = small_model.rename(tmp_path / "elsewhere" / "m")
    assert XLLM.from_pretrained(moved).recognizer.units == small_system.recognizer.units


def test_half_precision_is_half_the_size(small_system, small_model, tmp_path):
    parts = checkpoint.tensors(small_system, ("recognizer", "speech", "llm"))
    checkpoint.save(tmp_path / "half", "small", small_system.config, parts, half=True)
    sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path / "half", small_model)]
    assert sizes[0] < 0.6 * sizes[1]
    assert next(XLLM.from_pretrained(tmp_path / "half").parameters()).dtype == torch.float32


def test_an_incomplete_or_damaged_checkpoint_is_refused(small_model, tmp_path):
    with pytest.raises(ConfigError, match="neither a folder nor a model"):
        XLLM.from_pretrained(tmp_path / "none")
    weights = small_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ConfigError, match="cannot read the weights"):
        XLLM.from_pretrained(small_model)
    (small_model / checkpoint.MARK).unlink()
    with pytest.raises(ConfigError, match="not a complete checkpoint"):
        XLLM.from_pretrained(small_model)


def test_another_architecture_is_refused(small_model):
    card = small_model / "config.yaml"
    card.write_text(card.read_text().replace("blocks: 2", "blocks: 3"))
    with pytest.raises(ConfigError, match="recognizer.encoder.blocks.2"):
        XLLM.from_pretrained(small_model)


def test_parts_that_are_not_inside_are_named(small_system, tmp_path):
    checkpoint.save(tmp_path / "r", "small", small_system.config, checkpoint.tensors(small_system, ("recognizer",)))
    alone = XLLM.from_pretrained(tmp_path / "r")
    assert len(alone.transcribe([torch.randn(8000)], "cif")) == 1
    with pytest.raises(ConfigError, match="engine 'xllm'"):
        alone.transcribe([torch.randn(8000)], "xllm")
    with pytest.raises(ConfigError, match="no trained llm"):
        XLLM.from_pretrained(tmp_path / "r", parts=("recognizer", "llm"))


def test_a_renamed_part_may_lack_what_is_new(small_system, small_model):
    weights = checkpoint.load_tensors(small_model / "model.safetensors")
    weights = {
        name.replace("speech.", "other."): value for name, value in weights.items() if name != "speech.adapter.bias"
    }
    checkpoint.save_tensors(small_model / "model.safetensors", weights)
    with pytest.raises(ConfigError, match="no weights for speech.adapter.bias"):
        checkpoint.load_into(small_system, small_model, {"speech"}, {"other": "speech"})
    bias = small_system.speech.adapter.bias.clone()
    loaded = checkpoint.load_into(small_system, small_model, {"speech"}, {"other": "speech"}, new=[".adapter.bias"])
    assert loaded == {"speech"} and torch.equal(small_system.speech.adapter.bias, bias)


@pytest.mark.parametrize(
    "more, message", [("name: again\n", "'name' is given twice"), ("a: &a [*a]\n", "contains itself by an alias")]
)
def test_cards_are_read_as_strictly_as_recipes(small_model, more, message):
    with (small_model / "config.yaml").open("a", encoding="utf-8") as card:
        card.write(more)
    with pytest.raises(ConfigError, match=f"config.yaml, line .*{message}"):
        checkpoint.read_card(small_model)
