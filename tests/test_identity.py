"""Identities are contents: the same model elsewhere is the same, one with another weight is not."""

import shutil

import torch

from xllm import checkpoint
from xllm.identity import of_media, of_model
from xllm.members import reference


def test_of_media(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"12")
    (tmp_path / "b.tar").write_bytes(b"0123")
    assert of_media(str(tmp_path / "a.wav")) == of_media(reference(f"{tmp_path}/b.tar", 1, 2))
    assert of_media(str(tmp_path / "a.wav")) != of_media(reference(f"{tmp_path}/b.tar", 0, 2))


def test_of_model(small_system, small_model, tmp_path):
    elsewhere = shutil.copytree(small_model, tmp_path / "elsewhere")
    first = of_model(small_model)
    assert of_model(elsewhere) == first
    (elsewhere / "tokenizer" / "units.txt").write_text("天\n")
    assert of_model(elsewhere) != first
    parts = checkpoint.tensors(small_system, ("recognizer", "speech", "llm"))
    checkpoint.save(tmp_path / "named", "another name", small_system.config, parts)
    assert of_model(tmp_path / "named") == first
    with torch.no_grad():
        next(iter(parts.values())).view(-1)[0] += 1
    checkpoint.save(tmp_path / "named", "another name", small_system.config, parts)
    assert of_model(tmp_path / "named") != first


def test_of_models_with_parts_elsewhere(small_system, tmp_path):
    """What is frozen in another folder counts, and so does a language model in a folder of its own."""
    own = checkpoint.tensors(small_system, ("speech",))
    frozen = checkpoint.tensors(small_system, ("recognizer", "llm"))
    checkpoint.save(tmp_path / "frozen", "frozen", small_system.config, frozen)
    (tmp_path / "glm").mkdir()
    (tmp_path / "glm" / "model.safetensors").write_bytes(b"1")
    llm = small_system.config.llm.model_copy(update={"name": str(tmp_path / "glm")})
    config = small_system.config.model_copy(update={"llm": llm})
    checkpoint.save(tmp_path / "own", "own", config, own, frozen=[tmp_path / "frozen"])
    seen = {of_model(tmp_path / "own")}
    (tmp_path / "glm" / "model.safetensors").write_bytes(b"2")
    seen.add(of_model(tmp_path / "own"))
    with torch.no_grad():
        next(iter(frozen.values())).view(-1)[0] += 1
    checkpoint.save(tmp_path / "frozen", "frozen", small_system.config, frozen)
    seen.add(of_model(tmp_path / "own"))
    assert len(seen) == 3
