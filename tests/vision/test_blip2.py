"""BLIP-2's files: the same tokens and embeddings as transformers computes, nothing of the language model read."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2VisionConfig,
    Blip2VisionModel,
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
)

from xllm.config import VisionEncoderConfig, VisionInterfaceConfig
from xllm.errors import ConfigError
from xllm.vision.blip2 import load_blip2
from xllm.vision.encoder import VisionEncoder
from xllm.vision.interface import VisionInterface

WIDTH, SIZE = 32, 28


@pytest.fixture
def parts():
    torch.manual_seed(0)
    vision = Blip2VisionModel(
        Blip2VisionConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=SIZE,
            patch_size=14,
            layer_norm_eps=1e-6,
            initializer_range=0.3,
        )
    ).eval()
    config = Blip2QFormerConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        encoder_hidden_size=WIDTH,
        initializer_range=0.3,
    )
    return vision, Blip2QFormerModel(config).eval(), torch.randn(1, 4, 16)


@pytest.fixture
def folder(parts, tmp_path):
    """Two shards with an index; a third, of the language model, is not even there."""
    vision, qformer, queries = parts
    values = {f"vision_model.{name}": value for name, value in vision.state_dict().items()}
    values |= {f"qformer.{name}": value for name, value in qformer.state_dict().items()}
    values |= {"query_tokens": queries, "language_projection.weight": torch.randn(8, 16)}
    values |= {"language_projection.bias": torch.randn(8)}
    values = {name: value.contiguous() for name, value in values.items()}
    names = sorted(values)
    places = {name: f"model-0000{1 + number % 2}-of-00003.safetensors" for number, name in enumerate(names)}
    for shard in set(places.values()):
        save_file({name: values[name] for name in names if places[name] == shard}, tmp_path / shard)
    places["language_model.lm_head.weight"] = "model-00003-of-00003.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return tmp_path


def encoder(blocks=3):
    config = VisionEncoderConfig(size=SIZE, patch=14, width=WIDTH, depth=3, heads=2, blocks=blocks)
    return VisionEncoder(config).eval()


def interface(llm_width=8):
    config = VisionInterfaceConfig(queries=4, width=16, ffn=32, heads=2, layers=2)
    return VisionInterface(config, WIDTH, llm_width).eval()


@torch.no_grad()
def test_the_same_tokens_and_embeddings(parts, folder):
    vision, qformer, queries = parts
    ours, image = encoder(), interface()
    assert load_blip2(str(folder), ours, image) == {"vision", "image"}
    pixels = torch.rand(2, 3, SIZE, SIZE)
    wanted = vision((pixels - ours.mean) / ours.std).last_hidden_state
    tokens = ours(pixels)
    assert torch.allclose(tokens, wanted, atol=1e-5)
    seen = qformer(query_embeds=queries.expand(2, -1, -1), encoder_hidden_states=wanted).last_hidden_state
    embeddings, _ = image(tokens[:, None], torch.ones(2, dtype=torch.long))
    assert torch.allclose(embeddings, image.adapter(seen), atol=1e-5)
    assert image.adapter.weight.abs().max() > 1, "the language projection, since the widths are the same"


@torch.no_grad()
def test_instructblip_without_its_instructions(parts, folder, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = InstructBlipQFormerConfig(vocab_size=50, encoder_hidden_size=WIDTH, initializer_range=0.3, **sizes)
    qformer = InstructBlipQFormerModel(config).eval()
    qformer.embeddings.layernorm.weight.normal_()
    values = {f"qformer.{name}": value.contiguous() for name, value in qformer.state_dict().items()}
    (tmp_path / "instruct").mkdir()
    save_file(values | {"query_tokens": parts[2]}, tmp_path / "instruct" / "model.safetensors")
    image = interface()
    load_blip2(str(tmp_path / "instruct"), image=image)
    tokens = torch.randn(2, 5, WIDTH)
    queries = parts[2].expand(2, -1, -1)
    seen = qformer(None, query_embeds=queries, encoder_hidden_states=tokens).last_hidden_state
    embeddings, _ = image(tokens[:, None], torch.ones(2, dtype=torch.long))
    assert torch.allclose(embeddings, image.adapter(seen), atol=1e-5)


def test_fewer_blocks_another_width_and_eva_biases(folder, caplog):
    two = encoder(2)
    load_blip2(str(folder), two)
    assert len(two.vit.blocks) == 2
    fresh = interface(12)
    before = fresh.adapter.weight.clone()
    load_blip2(str(folder), image=fresh)
    assert torch.equal(fresh.adapter.weight, before) and "adapter begins new" in caplog.text
    import timm

    giant = encoder()
    giant.vit = timm.models.eva.Eva(SIZE, 14, embed_dim=WIDTH, depth=3, num_heads=2, num_classes=0, global_pool="token")
    giant.vit.norm = torch.nn.Identity()
    load_blip2(str(folder), giant)
    with torch.no_grad():
        pixels = torch.rand(1, 3, SIZE, SIZE)
        plain = encoder()
        load_blip2(str(folder), plain)
        zero = [block.attn.qkv.bias[WIDTH : 2 * WIDTH].zero_() for block in plain.vit.blocks]
        assert len(zero) == 3 and torch.allclose(giant(pixels), plain(pixels), atol=1e-4)


def test_what_is_missing_is_named(folder, tmp_path):
    index = folder / "model.safetensors.index.json"
    with pytest.raises(ConfigError, match="is \\(96, 32\\)|is \\(.*\\), vit"):
        wide = VisionEncoder(VisionEncoderConfig(size=SIZE, patch=14, width=64, depth=3, heads=2))
        load_blip2(str(folder), wide)
    with pytest.raises(ConfigError, match="has no weights for vit.blocks.3"):
        deep = VisionEncoder(VisionEncoderConfig(size=SIZE, patch=14, width=WIDTH, depth=4, heads=2))
        load_blip2(str(folder), deep)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ConfigError, match="has no model-00002"):
        load_blip2(str(folder), encoder())
    index.unlink()
    with pytest.raises(ConfigError, match="has no model.safetensors"):
        load_blip2(str(folder), encoder())


def test_the_language_model_is_not_read(parts, tmp_path):
    """In one file with 400 MB of it: peak memory stays far below that."""
    vision, qformer, queries = parts
    values = {f"vision_model.{name}": value.contiguous() for name, value in vision.state_dict().items()}
    values |= {f"qformer.{name}": value.contiguous() for name, value in qformer.state_dict().items()}
    values["query_tokens"] = queries
    values["language_model.model.weight"] = torch.zeros(100_000_000)
    save_file(values, tmp_path / "model.safetensors")
    code = f"""
import torch
from xllm.config import VisionEncoderConfig, VisionInterfaceConfig
from xllm.vision.encoder import VisionEncoder
from xllm.vision.interface import VisionInterface
from xllm.vision.blip2 import load_blip2
peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
model = VisionEncoder(VisionEncoderConfig(size={SIZE}, patch=14, width={WIDTH}, depth=3, heads=2))
image = VisionInterface(VisionInterfaceConfig(queries=4, width=16, ffn=32, heads=2, layers=2), {WIDTH}, 8)
before = peak()
load_blip2({str(tmp_path)!r}, model, image)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000, "kilobytes"


def test_a_stage_begins_from_it_and_its_runs_find_it_again(folder, small_config, tmp_path):
    from xllm import checkpoint
    from xllm.config import Recipe, StageConfig
    from xllm.model import XLLM
    from xllm.training.stages import build

    vision = VisionEncoderConfig(size=SIZE, patch=14, width=WIDTH, depth=3, heads=2)
    image = VisionInterfaceConfig(queries=4, width=16, ffn=32, heads=2, layers=2)
    config = small_config.model_copy(update={"vision": vision, "image": image, "blip2": str(folder)})
    alone = XLLM(config, ("llm",))
    checkpoint.save(tmp_path / "llm", "x", config, checkpoint.tensors(alone, ("llm",)))
    stage = StageConfig(
        stage=2,
        modality="image",
        start_from=(str(tmp_path / "llm"),),
        train=(tmp_path / "x.jsonl",),
        output=tmp_path / "run",
    )
    model = build(Recipe(name="x", model=config, stages={"image": stage}), stage).model
    plain = encoder()
    load_blip2(str(folder), plain)
    pixels = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(model.vision.eval()(pixels), plain(pixels))
        checkpoint.save(
            tmp_path / "run", "x", config, checkpoint.tensors(model, ("image",)), frozen=(tmp_path / "llm",)
        )
        again = XLLM.from_pretrained(tmp_path / "run")
        assert torch.equal(again.vision(pixels), plain(pixels))
        assert torch.equal(again.image.queries, model.image.queries)
