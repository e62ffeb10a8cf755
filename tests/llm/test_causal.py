"""Any Hugging Face causal LM behind the one class: its own logits and answers, padding on the left or not."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    GlmConfig,
    GraniteConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from xllm.config import IGNORE, LLMConfig
from xllm.context import ContextReader
from xllm.errors import ConfigError
from xllm.generation import generate
from xllm.llm.causal import CausalLM
from xllm.model import XLLM

SIZES = {
    "hidden_size": 64,  # a block of 4-bit weights
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "initializer_range": 0.3,  # logits far enough apart that rounding decides nothing
}
SLIDING = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "glm": (GlmConfig, {}),
    "glm4": (Glm4Config, {}),
    "qwen3": (Qwen3Config, {}),
    "llama-untied": (LlamaConfig, {"tie_word_embeddings": False}),
    "llama-tied": (LlamaConfig, {"tie_word_embeddings": True}),
    "gemma2": (Gemma2Config, {**SLIDING, "final_logit_softcapping": 2.0, "tie_word_embeddings": False}),
    "gemma3": (Gemma3TextConfig, SLIDING),
    "granite": (GraniteConfig, {"logits_scaling": 4.0, "embedding_multiplier": 3.0}),
    "cohere2": (Cohere2Config, {**SLIDING, "logit_scale": 0.25}),
}


def save(folder, tokenizer_folder, family):
    kind, extra = FAMILIES[family]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    config = kind(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SIZES,
        **extra,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=FAMILIES)
def saved(request, tmp_path, small_tokenizer):
    return save(tmp_path / "llm", small_tokenizer, request.param)


@pytest.fixture
def qwen3(tmp_path, small_tokenizer):
    return save(tmp_path / "llm", small_tokenizer, "qwen3")


def load(folder, **options):
    return CausalLM.build(LLMConfig(name=str(folder), **options), None).eval()


@torch.no_grad()
def test_a_model_of_a_folder_gives_its_own_logits(saved):
    llm = load(saved)
    ids = torch.tensor([[5, 9, 20, 31, 7, 12, 8]])
    hidden, _ = llm(llm.embed(ids), torch.ones(1, 7, dtype=torch.bool))
    own = AutoModelForCausalLM.from_pretrained(saved).eval()(ids).logits
    torch.testing.assert_close(llm.head(hidden), own.float(), atol=1e-4, rtol=1e-4)
    assert llm.width == 64 and llm.tokenizer.eos_token_id in llm.end_ids


@torch.no_grad()
def test_padding_and_cache_change_nothing(saved):
    llm = load(saved)
    embeds = llm.embed([[5, 9, 20, 31, 7, 12, 8]])
    plain, _ = llm(embeds, torch.ones(1, 7, dtype=torch.bool))
    mask = torch.tensor([[False] * 2 + [True] * 7])
    padded = torch.cat([torch.zeros(1, 2, 64), embeds], dim=1)
    shifted, _ = llm(padded, mask)
    torch.testing.assert_close(shifted[:, 2:], plain, atol=1e-4, rtol=1e-4)
    cache = None
    for start, end in ((0, 5), (5, 6), (6, 9)):  # a prompt, a token, several candidates
        part, cache = llm(padded[:, start:end], mask[:, :end], cache, use_cache=True)
        torch.testing.assert_close(
            part[:, max(2 - start, 0) :], plain[:, max(start - 2, 0) : end - 2], atol=1e-4, rtol=1e-4
        )


@torch.no_grad()
def test_answers_are_the_models_own_alone_or_in_a_batch(saved):
    llm = load(saved)
    own = AutoModelForCausalLM.from_pretrained(saved).eval()
    mask = torch.tensor([[False] * 3 + [True] * 4, [True] * 7, [False] * 6 + [True]])
    embeds = llm.embed(torch.randint(4, 60, (3, 7), generator=torch.Generator().manual_seed(3))) * mask[..., None]
    limit = 7  # the guard against repetition needs eight
    whole = own.generate(inputs_embeds=embeds, attention_mask=mask.long(), do_sample=False, max_new_tokens=limit)
    together = generate(llm, embeds, mask, [limit] * 3)
    for row in range(3):
        expected = whole[row].tolist()
        end = next((i for i, token in enumerate(expected) if token in llm.end_ids), len(expected))
        assert together[row].ids == expected[:end]
        real = mask[row]
        assert generate(llm, embeds[row, real][None], real[real][None], [limit])[0].ids == expected[:end]


@torch.no_grad()
def test_it_is_loaded_in_the_asked_dtype(qwen3, small_config):
    for dtype in ("bfloat16", "float16", "float32"):
        assert load(qwen3, dtype=dtype).embeddings.dtype == getattr(torch, dtype)
    # What hears stays in float32, and reads and writes what the LLM is in.
    decoder = small_config.recognizer.decoder.model_copy(update={"linguistic_blocks": (1,), "linguistic_width": 64})
    recognizer = small_config.recognizer.model_copy(update={"decoder": decoder})
    named = small_config.model_copy(
        update={"llm": LLMConfig(name=str(qwen3), dtype="bfloat16"), "recognizer": recognizer}
    )
    torch.manual_seed(0)
    model = XLLM(named, ("recognizer", "speech", "llm")).eval()
    waves = [torch.randn(16000), torch.randn(9000)]
    assert len(model.transcribe(waves)) == 2
    model.recognizer.decoder.blocks[0].cross.attention.out_proj.weight.normal_()  # which begins without effect
    assert ContextReader(model, "cif")((), "天地").linguistic.dtype == torch.float32
    tokens = [{"speech": [torch.randn(3, 16)]}]
    losses = model.response_loss(tokens, [{}], ["天"], ["地"], told=[{"speech": "天地人"}])
    assert losses["loss"].dtype == torch.float32


@torch.no_grad()
def test_a_model_that_is_spread_out_stays_where_it_is(qwen3, small_config, tmp_path):
    from accelerate import dispatch_model

    config = small_config.model_copy(update={"llm": LLMConfig(name=str(qwen3), device_map="auto")})
    torch.manual_seed(0)
    model = XLLM(config, ("recognizer", "speech", "llm")).eval()
    waves = [torch.randn(16000), torch.randn(9000)]
    before = model.transcribe(waves)
    places = {"model.embed_tokens": "disk", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "disk"}
    places |= {"model.layers.0": "cpu", "model.layers.1": "disk"}
    dispatch_model(model.llm.model, places, main_device="cpu", offload_dir=tmp_path / "offload")
    model.to("cpu", torch.float64).float()
    assert model.llm.embeddings.is_meta and model.device == torch.device("cpu")
    for moved, stayed in zip(model.transcribe(waves), before, strict=True):
        assert moved.text == stayed.text and moved.score == pytest.approx(stayed.score, rel=1e-5)


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantised_loading_needs_bitsandbytes_and_says_so(qwen3, kind, monkeypatch):
    monkeypatch.setattr("xllm.llm.causal.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        load(qwen3, load_in=kind)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantised_models_answer_nearly_the_same(qwen3, kind):
    pytest.importorskip("bitsandbytes")
    plain, small = load(qwen3), load(qwen3, load_in=kind)
    assert small.model.is_quantized and small.model.get_output_embeddings().weight.is_floating_point()
    embeds, mask = plain.embed([[5, 9, 20, 31]]), torch.ones(1, 4, dtype=torch.bool)
    a, b = plain(embeds, mask)[0], small.to("cpu")(embeds, mask)[0]
    assert torch.nn.functional.cosine_similarity(a, b, dim=-1).min() > {"8bit": 0.98, "4bit": 0.8}[kind]


def test_a_model_that_is_not_there_is_one_line(tmp_path):
    for name, revision, remedy in (
        (str(tmp_path / "none"), None, "give a folder that transformers loads"),
        ("Qwen/Qwen9", None, "hf download Qwen/Qwen9; with a folder of it: model.llm.name=FOLDER"),
        ("Qwen/Qwen9", "abc", "hf download Qwen/Qwen9 --revision abc;"),
    ):
        with pytest.raises(ConfigError, match=f"llm.name .* cannot be loaded .*{remedy}") as caught:
            CausalLM.build(LLMConfig(name=name, revision=revision), None)
        assert "\n" not in str(caught.value)


def test_loss_by_few_rows_at_a_time_is_the_loss(small_tokenizer, monkeypatch):
    """Also its gradients, in a head that trains and before one that does not."""
    torch.manual_seed(1)
    llm = CausalLM.build(LLMConfig(width=16, ffn=32, heads=2, layers=1, max_tokens=64), small_tokenizer)
    embeds, mask = torch.randn(3, 9, 16, requires_grad=True), torch.ones(3, 9, dtype=torch.bool)
    targets = torch.randint(0, 20, (3, 9))
    targets[:, :4] = IGNORE

    def gradients():
        loss, wrong = llm.answer_loss(embeds, mask, targets)
        return [loss, wrong, *torch.autograd.grad(loss, [embeds, *llm.parameters()], allow_unused=True)]

    whole, seen = gradients(), []
    monkeypatch.setattr(CausalLM, "rows", 4)
    head = CausalLM.head
    monkeypatch.setattr(CausalLM, "head", lambda self, hidden: seen.append(len(hidden)) or head(self, hidden))
    parts = gradients()
    assert seen == [4, 4, 4, 3] + [4, 4, 4, 3][::-1], "once for the loss, once for the gradient"
    for one, other in zip(whole, parts, strict=True):
        assert one is None or torch.allclose(one, other, atol=1e-6)
