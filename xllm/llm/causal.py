"""The frozen large language model: any Hugging Face causal LM that takes `inputs_embeds`, behind one small class."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xllm.config import IGNORE, LLMConfig
from xllm.errors import ConfigError
from xllm.trust import loading

ROWS, LOGITS = 128, 1 << 24  # fewest rows of logits at a time (FACTS 10: fewer are slower), and most numbers beyond


class CausalLM(nn.Module):
    """Embed, forward, head and tokenizer of a causal LM. The head is apart: it runs on answer positions only."""

    def __init__(self, model: nn.Module, tokenizer):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.turn_ends: set[int] = set()  # ids that end a turn of a chat; `Prompt` knows them

    @classmethod
    def build(cls, config: LLMConfig, tokenizer_folder: Path | None) -> "CausalLM":
        """Load the LLM named in `config`, or make a small Llama of the given sizes, untrained.

        Raises ConfigError when the named model cannot be loaded as asked.
        """
        if config.name is None:
            from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

            with loading(
                f"model.tokenizer {str(tokenizer_folder)!r}", "give the folder that `xllm prepare-data` wrote"
            ):
                tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder, trust_remote_code=False)
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=len(tokenizer),
                    hidden_size=config.width,
                    intermediate_size=config.ffn,
                    num_hidden_layers=config.layers,
                    num_attention_heads=config.heads,
                    num_key_value_heads=config.heads,
                    max_position_embeddings=config.max_tokens,
                    tie_word_embeddings=True,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
            )
            return cls(model, tokenizer)
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if (folder := _chatglm(config)) is not None:
            from xllm.llm.chatglm import ChatGLM

            if (config.dtype, config.device_map, config.load_in) != ("auto", None, None):
                raise ConfigError("ChatGLM-6B is loaded as it is published: without llm.dtype, device_map and load_in")
            with loading(f"llm.name {config.name!r}"):
                loaded = ChatGLM.load(folder)
            loaded.half_angles = config.half_angles
            return loaded
        with loading(f"llm.name {config.name!r}", _remedy(config)):
            tokenizer = AutoTokenizer.from_pretrained(config.name, revision=config.revision, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                config.name,
                revision=config.revision,
                dtype=config.dtype,
                device_map=config.device_map,
                quantization_config=_quantization(config),
                trust_remote_code=False,
                weights_only=True,
            )
        return cls(model, tokenizer)

    @property
    def embeddings(self) -> Tensor:
        """Of every token, [V, D_llm]."""
        return self.model.get_input_embeddings().weight

    @property
    def width(self) -> int:
        """D_llm."""
        return self.embeddings.shape[1]

    @property
    def positions(self) -> int:
        """Most tokens of prompt and answer together."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20

    @property
    def end_ids(self) -> set[int]:
        """Ids that end an answer."""
        ends = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ends = [ends] if isinstance(ends, int) else ends or []
        return {self.tokenizer.eos_token_id, *ends, *self.turn_ends}

    def embed(self, ids: Tensor | Sequence[int]) -> Tensor:
        """Input embeddings [..., D_llm] of token ids."""
        table = self.model.get_input_embeddings()
        device = None if table.weight.is_meta else table.weight.device  # meta: accelerate brings them when needed
        return table(torch.as_tensor(ids, dtype=torch.long, device=device))

    def _apply(self, fn, recurse=True):
        """A model that accelerate has spread over devices stays where it is when the system around it moves."""
        return self if hasattr(self.model, "hf_device_map") else super()._apply(fn, recurse)

    def forward(self, embeds: Tensor, mask: Tensor, cache=None, use_cache: bool = False) -> tuple[Tensor, object]:
        """Hidden states [B, L, D_llm] before the head, and the key-value cache.

        `embeds` [B, L, D_llm] are the new positions; `mask` [B, L_past + L] is true at real ones, past included.
        Positions count real tokens only, so padding on the left does not shift them.
        """
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
        out = self.model.base_model(
            inputs_embeds=embeds,
            attention_mask=mask.long(),
            position_ids=positions,
            cache=cache,
            use_cache=use_cache,
        )
        # The last layer may be on another device than the first.
        return out.last_hidden_state.to(embeds.device), out.cache if use_cache else None

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [..., V], float32, of hidden states [..., D_llm]."""
        logits = self.model.get_output_embeddings()(hidden).to(hidden.device).float()
        config = self.model.config.get_text_config()
        scale = getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)  # Cohere, Granite
        logits = logits if scale == 1.0 else logits * scale
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2 and later
        return cap * torch.tanh(logits / cap) if cap else logits

    @property
    def rows(self) -> int:
        """How many positions the head is to see at once: 150,000 words of 128 are 77 MB."""
        return max(ROWS, LOGITS // len(self.embeddings))

    def answer_loss(self, embeds: Tensor, mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of `targets` [B, L] and the share of wrong ones; the head runs on these positions only.

        Hidden state t predicts target t+1; IGNORE carries no loss. Where answers are many, logits are made `rows` at a
        time, and again for the gradient, so that those of all answers never exist together.
        """
        hidden, _ = self(embeds, mask)
        wanted = targets[:, 1:] != IGNORE
        parts = list(zip(*(x[wanted].split(self.rows) for x in (hidden[:, :-1], targets[:, 1:])), strict=True))
        if len(parts) == 1:
            sums = [self._answer_sums(*parts[0])]
        else:
            sums = [checkpoint(self._answer_sums, *part, use_reentrant=False) for part in parts]
        loss, wrong = (sum(values) / wanted.sum() for values in zip(*sums, strict=True))
        return loss, wrong

    def _answer_sums(self, hidden: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of ids [N] after hidden states [N, D_llm], and how many are not the likeliest."""
        logits = self.head(hidden)
        return nn.functional.cross_entropy(logits, answer, reduction="sum"), (logits.argmax(-1) != answer).float().sum()


def _remedy(config: LLMConfig) -> str:
    """How to get the LLM that cannot be loaded."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(config.name)
    except HFValidationError:  # a path
        return "give a folder that transformers loads: config.json, safetensors and the tokenizer"
    pinned = f" --revision {config.revision}" if config.revision else ""
    return (
        f"where the hub can be reached: hf download {config.name}{pinned}; with a folder of it: model.llm.name=FOLDER "
        "in training, xllm export MODEL COPY --llm FOLDER for a trained one"
    )


def _quantization(config: LLMConfig):
    """bitsandbytes' settings in the words of transformers; raises ConfigError when it is not installed."""
    if config.load_in is None:
        return None
    if find_spec("bitsandbytes") is None:
        raise ConfigError(f"llm.load_in {config.load_in} needs bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    if config.load_in == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def _chatglm(config: LLMConfig) -> Path | None:
    """The folder of a ChatGLM-6B, which transformers does not know; None for any other model."""
    folder = Path(config.name)
    if not folder.is_dir() and "chatglm-6b" in config.name.lower():
        from huggingface_hub import snapshot_download

        try:
            patterns = ["config.json", "ice_text.model", "*.safetensors", "pytorch_model*"]
            folder = Path(snapshot_download(config.name, revision=config.revision, allow_patterns=patterns))
        except OSError:
            raise ConfigError(f"llm.name {config.name!r} is not in the cache: hf download {config.name}") from None
    path = folder / "config.json"
    try:
        return folder if json.loads(path.read_text(encoding="utf-8")).get("model_type") == "chatglm" else None
    except (OSError, ValueError, AttributeError):
        return None
