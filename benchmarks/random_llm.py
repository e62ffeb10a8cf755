"""What benchmarks share: a random language model of Qwen3's shape, and tiny's ears in front of it as one checkpoint."""

from pathlib import Path

import torch
from torch import nn

from xllm import checkpoint
from xllm.config import LLMConfig, ModelConfig
from xllm.model import XLLM


def language_model(width: int = 896, layers: int = 24, vocabulary: int = 151936, words: int | None = None) -> nn.Module:
    """Half a billion parameters as they stand; of its vocabulary it writes only the first `words`.

    What a token is must weigh more than where it stands, and the likeliest next one must be another: a random model
    says the same word for ever.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=False,
        eos_token_id=0,
    )
    model = Qwen3ForCausalLM(config).eval()
    words = words or vocabulary
    with torch.no_grad():
        table = model.get_input_embeddings().weight.mul_(20)
        model.lm_head.weight[:words] = table[:words][torch.randperm(words)]
        model.lm_head.weight[words:] *= 1e-3
    return model


def with_tiny_ears(folder: Path) -> Path:
    """tiny's recogniser, a speech interface that has learned nothing, and the model above as its `llm.name`."""
    from transformers import PreTrainedTokenizerFast

    card = checkpoint.read_card(checkpoint.BUNDLES / "tiny")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(card.model.tokenizer)
    language_model(words=len(tokenizer)).save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    sizes = ModelConfig(
        tokenizer=card.model.tokenizer,
        recognizer=card.model.recognizer,
        speech=card.model.speech.model_copy(update={"text_weight": 0.0}),
        llm=LLMConfig(name=str(folder / "llm"), dtype="float32"),
    )
    system = XLLM(sizes, ("recognizer", "speech", "llm"))
    checkpoint.load_into(system, checkpoint.BUNDLES / "tiny", {"recognizer"})
    for name, parts in (("ears", ("recognizer",)), ("system", ("recognizer", "speech"))):
        checkpoint.save(folder / name, name, sizes, checkpoint.tensors(system, parts))
    return folder / "system"
