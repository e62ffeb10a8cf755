"""Any Hugging Face causal LM behind the one class: same logits as its own forward, padding on the left or not."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from xllm.config import LLMConfig
from xllm.errors import ConfigError
from xllm.llm.causal import CausalLM

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


@pytest.fixture(params=[LlamaConfig, Qwen3Config, Gemma2Config], ids=["llama", "qwen3", "gemma2-softcap"])
def saved(request, tmp_path, small_tokenizer):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(small_tokenizer)
    config = request.param(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=0, **SIZES)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


@torch.no_grad()
def test_a_model_of_a_folder_gives_its_own_logits(saved):
    llm = CausalLM.build(LLMConfig(name=str(saved)), None).eval()
    ids = torch.tensor([[5, 9, 20, 31, 7]])
    hidden, _ = llm(llm.embed(ids), torch.ones(1, 5, dtype=torch.bool))
    own = AutoModelForCausalLM.from_pretrained(saved).eval()(ids).logits
    torch.testing.assert_close(llm.head(hidden), own.float(), atol=1e-5, rtol=1e-4)
    assert llm.width == 16 and llm.tokenizer.eos_token_id in llm.end_ids


@torch.no_grad()
def test_padding_and_cache_change_nothing(saved):
    llm = CausalLM.build(LLMConfig(name=str(saved)), None).eval()
    embeds = llm.embed([[5, 9, 20, 31]])
    plain, _ = llm(embeds, torch.ones(1, 4, dtype=torch.bool))
    mask = torch.tensor([[False, False, True, True, True, True]])
    padded = torch.cat([torch.zeros(1, 2, 16), embeds], dim=1)
    shifted, _ = llm(padded, mask)
    torch.testing.assert_close(shifted[:, 2:], plain, atol=1e-5, rtol=1e-4)
    _, cache = llm(padded[:, :-1], mask[:, :-1], use_cache=True)
    last, _ = llm(padded[:, -1:], mask, cache, use_cache=True)
    torch.testing.assert_close(last, plain[:, -1:], atol=1e-5, rtol=1e-4)


def test_a_model_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="llm.name .* cannot be loaded") as caught:
        CausalLM.build(LLMConfig(name=str(tmp_path / "none")), None)
    assert "\n" not in str(caught.value)
