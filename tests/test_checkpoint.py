"""Checkpoints: whole or refused, safetensors only, and the weights come back."""

import pytest
import torch
import yaml
from safetensors.torch import load_file

from xllm import checkpoint
from xllm.config import VisionEncoderConfig
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
    checkpoint.save(tmp_path / "half", "small", small_system.config, parts, bits=16)
    sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path / "half", small_model)]
    assert sizes[0] < 0.6 * sizes[1]
    assert next(XLLM.from_pretrained(tmp_path / "half").parameters()).dtype == torch.float32


def test_eight_bits_a_weight_and_a_scale_a_row(small_system, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WORTH", 64)
    parts = checkpoint.tensors(small_system, ("recognizer", "speech", "llm"))
    checkpoint.save(tmp_path / "eight", "small", small_system.config, parts, bits=8)
    kept = load_file(tmp_path / "eight" / "model.safetensors")
    assert {t.dtype for t in kept.values()} == {torch.int8, torch.float32, torch.float16}
    loaded = dict(XLLM.from_pretrained(tmp_path / "eight").named_parameters())
    for name, value in parts.items():
        half = value.abs() / 2048 if value.dim() < 2 else value.abs().amax(tuple(range(1, value.dim())), True) / 254
        assert ((loaded[name] - value).abs() <= half + 1e-6).all(), name


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


def test_an_image_encoder_that_nothing_stored_attends_to_is_not_fetched(small_system, small_config, tmp_path):
    vision = VisionEncoderConfig(name="vit_tiny_patch16_224", pretrained=True)
    config, parts = small_config.model_copy(update={"vision": vision}), {"recognizer"}
    checkpoint.save(tmp_path / "r", "r", config, checkpoint.tensors(small_system, parts))
    waves = [torch.randn(16000)]
    loaded = XLLM.from_pretrained(tmp_path / "r")
    assert not hasattr(loaded, "vision") and loaded.transcribe(waves, "cif") == small_system.transcribe(waves, "cif")
    with pytest.raises(ConfigError, match="vit_tiny_patch16_224"):
        XLLM.from_pretrained(tmp_path / "r", parts={"vision"})


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


def change(folder, **values):
    """Rewrite keys of a checkpoint's card."""
    card = folder / "config.yaml"
    data = yaml.safe_load(card.read_text(encoding="utf-8"))
    for key, value in values.items():
        node = data
        *path, last = key.split("__")
        for part in path:
            node = node[part]
        node[last] = value
    card.write_text(yaml.safe_dump(data), encoding="utf-8")


@pytest.mark.parametrize("tokenizer", ["../secrets", "/etc", "tokenizer/../../secrets", "a\0b"])
def test_a_card_names_no_tokenizer_elsewhere(small_model, tokenizer):
    (small_model.parent / "secrets").mkdir()
    change(small_model, model__tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="leads out of its folder|is no path in it"):
        XLLM.from_pretrained(small_model)


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "tokenizer", "tokenizer/units.txt"])
def test_no_link_leads_out_of_a_checkpoint(small_model, tmp_path, name):
    (small_model / name).rename(tmp_path / "elsewhere")
    (small_model / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="leads out of its folder"):
        XLLM.from_pretrained(small_model)


def test_a_link_to_a_whole_checkpoint_and_links_within_one_are_fine(small_system, small_model, tmp_path):
    (small_model / "tokenizer").rename(small_model / "words")
    (small_model / "tokenizer").symlink_to("words")
    (tmp_path / "latest").symlink_to(small_model)
    assert XLLM.from_pretrained(tmp_path / "latest").recognizer.units == small_system.recognizer.units


@pytest.fixture
def snapshot(small_model, tmp_path):
    """That checkpoint as the hub's cache keeps it: every file a link to the repository's blobs."""
    home = tmp_path / "hub" / "models--somebody--small"
    (home / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(p for p in small_model.rglob("*") if p.is_file())):
        link = home / "snapshots" / "abc" / path.relative_to(small_model)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(home / "blobs" / str(number))
        link.symlink_to(home / "blobs" / str(number))
    return home / "snapshots" / "abc"


def test_a_snapshot_of_the_hub_is_read(snapshot, small_system):
    assert XLLM.from_pretrained(snapshot).recognizer.units == small_system.recognizer.units


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("frozen", ["/home/me/run"], "its owner has to publish what `xllm export` writes"),
        ("model__llm__name", "/home/me/llm", "names '/home/me/llm', a place on this machine"),
        ("model__llm__name", "../llm", "a place on this machine"),
        ("model__blip2", "~/blip2", "a place on this machine"),
        ("model__speech__bert", "./bert", "a place on this machine"),
        ("model__recognizer__encoder", {"form": "whisper", "pretrained": "a/../../b"}, "a place on this machine"),
        ("model__vision", {"name": "local-dir:/home/me/vit", "pretrained": True}, "a place on this machine"),
    ],
)
def test_what_comes_from_the_hub_names_no_place_on_this_machine(snapshot, key, value, told):
    change(snapshot, **{key: value})
    with pytest.raises(ConfigError, match=told):
        checkpoint.read_card(snapshot)


def test_what_comes_from_the_hub_may_name_models_of_the_hub(snapshot):
    sizes = {"_name_or_path": "/home/its/owner/llm"}
    change(snapshot, model__llm__name="Qwen/Qwen3-4B", model__llm__sizes=sizes, model__speech__bert="bert-base-chinese")
    assert checkpoint.read_card(snapshot).model.llm.name == "Qwen/Qwen3-4B"


def test_own_runs_may_name_folders(small_model, tmp_path):
    change(small_model, frozen=[str(tmp_path / "first")], model__llm__name=str(tmp_path / "llm"))
    assert checkpoint.read_card(small_model).frozen == (str(tmp_path / "first"),)


def test_only_the_files_of_a_tokenizer_are_copied(small_system, small_config, tmp_path, caplog):
    (small_config.tokenizer / "id_rsa").write_text("secret")
    (small_config.tokenizer / "more").mkdir()
    checkpoint.save(tmp_path / "run", "small", small_config, checkpoint.tensors(small_system, ("llm",)))
    names = {path.name for path in (tmp_path / "run" / "tokenizer").iterdir()}
    assert names == {"units.txt", "syllables.txt", "tokenizer.json", "tokenizer_config.json"}
    assert "not copied" in caplog.text and "id_rsa, more" in caplog.text


def test_a_path_that_is_not_there_is_no_name_of_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    for name in ("../model", "./model"):
        with pytest.raises(ConfigError, match="neither a folder nor"):
            checkpoint.find(name)


@pytest.mark.parametrize(
    "more, message", [("name: again\n", "'name' is given twice"), ("a: &a [*a]\n", "contains itself by an alias")]
)
def test_cards_are_read_as_strictly_as_recipes(small_model, more, message):
    with (small_model / "config.yaml").open("a", encoding="utf-8") as card:
        card.write(more)
    with pytest.raises(ConfigError, match=f"config.yaml, line .*{message}"):
        checkpoint.read_card(small_model)


@pytest.mark.parametrize("bits", [16, 8])
def test_what_float16_cannot_hold_stays_as_it_is(tmp_path, small_config, bits):
    matrix = torch.ones(64, 64)
    matrix[3, :2] = torch.tensor([float("inf"), float("nan")])
    values = {"vision.vit.running_var": torch.tensor([1e5, 1.0]), "vision.norm.weight": torch.tensor([1.5])}
    values["vision.vit.weight"] = matrix
    checkpoint.save(tmp_path / "half", "small", small_config, values, bits=bits)
    kept = checkpoint.read_weights(tmp_path / "half")
    for name in ("vision.vit.running_var", "vision.vit.weight"):
        assert torch.equal(kept[name].nan_to_num(7.0), values[name].nan_to_num(7.0)), name
    assert kept["vision.norm.weight"].dtype == torch.float16


def test_rows_of_nothing_and_what_is_not_contiguous_survive_eight_bits(tmp_path, small_config):
    matrix = torch.randn(64, 128, generator=torch.Generator().manual_seed(1)).T
    matrix[5] = 0.0
    checkpoint.save(tmp_path / "eight", "small", small_config, {"llm.x": matrix}, bits=8)
    kept = checkpoint.read_weights(tmp_path / "eight")["llm.x"]
    assert not kept[5].any()
    torch.testing.assert_close(kept, matrix, atol=float(matrix.abs().max()) / 254 + 1e-6, rtol=0)


def test_what_a_part_began_from_is_not_said_of_a_part_that_is_inside(tmp_path, small_config):
    named = small_config.speech.model_copy(update={"bert": "somebody/bert"})
    config = small_config.model_copy(update={"speech": named})
    for part, said in (("speech", None), ("llm", "somebody/bert")):
        checkpoint.save(tmp_path / part, "small", config, {f"{part}.x": torch.zeros(1)})
        assert checkpoint.read_card(tmp_path / part).model.speech.bert == said
