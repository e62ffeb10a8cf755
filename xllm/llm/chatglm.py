"""ChatGLM-6B (Zeng et al. 2022; FACTS 5), the paper's language model, which transformers has no class for.

A prefix LM: the prompt up to `[gMASK]` sees all of itself, from `<sop>` on each token sees what came before. Positions
have two numbers: in the prompt the place and 0; from `<sop>` on the place of `[gMASK]` and 1, 2, 3, ... Residuals carry
the normed input times sqrt(2 * layers). Parameters have their published names.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from transformers import DynamicCache

from xllm.config import Config
from xllm.errors import ConfigError
from xllm.llm.causal import CausalLM
from xllm.llm.ice import IceTokenizer
from xllm.trust import loading


class ChatGLMConfig(Config):
    """Sizes by their names in config.json; the defaults are ChatGLM-6B's."""

    model_config = {"frozen": True, "extra": "ignore"}

    vocab_size: PositiveInt = 130528
    hidden_size: PositiveInt = 4096
    inner_hidden_size: PositiveInt = 16384
    num_layers: PositiveInt = 28
    num_attention_heads: PositiveInt = 32
    layernorm_epsilon: PositiveFloat = 1e-5
    max_sequence_length: PositiveInt = 2048
    gmask_token_id: NonNegativeInt = 130001
    bos_token_id: NonNegativeInt = 130004  # <sop>
    eos_token_id: NonNegativeInt = 130005  # <eop>

    @property
    def num_hidden_layers(self) -> int:
        """As other configurations call it."""
        return self.num_layers


def _angles(positions: Tensor, width: int, half: bool = False) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, L, width] of positions [B, L]: exact, or rounded to 16 bits as in the release."""
    kind = torch.float16 if half else torch.float32
    rate = 10000.0 ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    angle = (positions.to(kind)[..., None] * rate.to(kind)).repeat(1, 1, 2)[:, None]
    return angle.cos().float(), angle.sin().float()


def _rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return (x.float() * angles[0] + turned.float() * angles[1]).to(x.dtype)


class Attention(nn.Module):
    """Heads whose first half is rotated by the position, the second by the place in the answer. [B, L, D] -> same."""

    def __init__(self, config: ChatGLMConfig, layer: int):
        super().__init__()
        self.heads, self.layer = config.num_attention_heads, layer
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, angles: tuple, mask: Tensor, cache: DynamicCache | None) -> Tensor:
        batch, length, width = x.shape
        # Interleaved: each head's query, key and value lie side by side.
        q, k, v = self.query_key_value(x).view(batch, length, self.heads, -1).transpose(1, 2).chunk(3, dim=-1)
        place, block = angles
        q, k = (
            torch.cat([_rotate(a, place), _rotate(b, block)], dim=-1) for a, b in (t.chunk(2, dim=-1) for t in (q, k))
        )
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.dense(mixed.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    def __init__(self, config: ChatGLMConfig):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x), approximate="tanh"))


class Layer(nn.Module):
    """[B, L, D] -> same."""

    def __init__(self, config: ChatGLMConfig, number: int):
        super().__init__()
        self.scale = (2 * config.num_layers) ** 0.5
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.attention = Attention(config, number)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, angles: tuple, mask: Tensor, cache: DynamicCache | None) -> Tensor:
        x = self.input_layernorm(x)
        x = self.post_attention_layernorm(x * self.scale + self.attention(x, angles, mask, cache))
        return x * self.scale + self.mlp(x)


class Transformer(nn.Module):
    def __init__(self, config: ChatGLMConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)


class ChatGLMModel(nn.Module):
    """All the weights, under their published names."""

    def __init__(self, config: ChatGLMConfig):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.transformer.word_embeddings

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head


class PrefixCache(DynamicCache):
    """Keys and values, and where each row's prompt ended: `ends` [B] counts the real tokens before `<sop>`."""

    def __init__(self, ends: Tensor):
        super().__init__()
        self.ends = ends

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.ends = self.ends[indices]


class ChatGLM(CausalLM):
    """ChatGLM-6B with the face of every language model here."""

    half_angles = False  # as the released model computes them; exact otherwise

    @classmethod
    def load(cls, folder: Path) -> "ChatGLM":
        """From a folder with config.json, ice_text.model and weights (safetensors, or .bin read without pickled code).

        Raises ConfigError for what is missing, damaged or of another shape.
        """
        config = ChatGLMConfig.model_validate(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        with torch.device("meta"):
            model = ChatGLMModel(config)
        own = dict(model.named_parameters())
        for name, value in _weights(folder):
            if name not in own:
                continue  # rotary_emb.inv_freq, which is computed here
            if own[name].shape != value.shape:
                raise ConfigError(f"{folder}: {name} is {tuple(value.shape)}, not {tuple(own[name].shape)}")
            module, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(module), leaf, nn.Parameter(value, requires_grad=False))
        if missing := [name for name, value in model.named_parameters() if value.is_meta]:
            raise ConfigError(f"{folder}: has no weights for {missing[0]}, and {len(missing) - 1} more")
        return cls(model, IceTokenizer(folder / "ice_text.model", config))

    @property
    def positions(self) -> int:
        return self.model.config.max_sequence_length

    @property
    def end_ids(self) -> set[int]:
        return {self.model.config.eos_token_id}

    def forward(self, embeds: Tensor, mask: Tensor, cache=None, use_cache: bool = False) -> tuple[Tensor, object]:
        """As CausalLM's. A prompt ends where the embedding of `<sop>` stands, which nothing else has exactly."""
        count = mask.long().cumsum(-1) - 1  # a real token's place; padding has that of its neighbour
        if cache is None:
            sop = self.embeddings[self.model.config.bos_token_id]
            found = (embeds == sop).all(-1) & mask
            if not bool(found.any(-1).all()):
                raise ValueError("a prompt without <sop>: ChatGLM does not know where it ends")
            ends = count.gather(1, found.long().argmax(-1, keepdim=True))[:, 0]
            cache = PrefixCache(ends) if use_cache else None
        else:
            ends = cache.ends
        new = embeds.shape[1]
        prompt = count < ends[:, None]
        place = torch.where(prompt, count, ends[:, None] - 1).clamp(min=0)[:, -new:]
        block = (count - ends[:, None] + 1).clamp(min=0)[:, -new:]
        total = mask.shape[1]
        slots = torch.arange(total, device=mask.device)
        seen = (slots <= slots[total - new :, None]) | prompt[:, None]  # [B, new, total]
        seen = seen & mask[:, None]
        seen = seen | (slots == slots[total - new :, None])  # padding sees itself, or its softmax has nothing
        half = self.width // self.model.config.num_attention_heads // 2
        angles = _angles(place, half, self.half_angles), _angles(block, half, self.half_angles)
        x = embeds
        for layer in self.model.transformer.layers:
            x = layer(x, angles, seen[:, None], cache)
        return self.model.transformer.final_layernorm(x), cache if use_cache else None

    def head(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(hidden).float()


def _weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Each published tensor, a shard at a time."""
    from safetensors import safe_open

    shards = sorted(folder.glob("*.safetensors"))
    for shard in shards:
        with loading(str(shard), "copy it again"), safe_open(shard, framework="pt") as file:
            yield from ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 - not a mapping
    for shard in [] if shards else sorted(folder.glob("pytorch_model*.bin")):
        with loading(str(shard), "copy it again"):
            yield from torch.load(shard, map_location="cpu", mmap=True, weights_only=True).items()
