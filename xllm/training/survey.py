"""A recipe counted without its weights: parameters of each part, what each stage moves, memory, steps.

Parts are built on PyTorch's meta device, which has shapes and no numbers: a system of 7.6 billion parameters takes
seconds and no memory.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from xllm import PACKAGED
from xllm.checkpoint import BUNDLES
from xllm.config import (
    CaptionEncoderConfig,
    ContextConfig,
    LLMConfig,
    ModelConfig,
    Recipe,
    StageConfig,
    VisionEncoderConfig,
)
from xllm.context import encoders
from xllm.llm.causal import CausalLM
from xllm.llm.chatglm import ChatGLMConfig, ChatGLMModel
from xllm.llm.lora import add_lora
from xllm.modalities import MODALITIES
from xllm.speech.context import CaptionEncoder, ContextEncoders
from xllm.training.schedule import misfit
from xllm.training.stages import find_stage
from xllm.trust import loading
from xllm.vision.encoder import VisionEncoder

# Bytes of a trained parameter: itself, its gradient and AdamW's two moments, all float32.
TRAINED, FROZEN, HALF = 16, 4, 2
# Bytes that a transformer layer keeps for its backward pass, for each token and unit of width, in 16 bits and with
# fused attention: Korthikanti et al. 2022, section 4.1, without the softmax and dropout of the attention matrix.
KEPT = 34
LOGITS = 12  # bytes of a logit: itself in float32, its softmax, its gradient


@dataclass(frozen=True)
class StageSurvey:
    """What one stage costs; bytes are of one GPU, `activations` an estimate, steps are optimiser steps of an epoch.

    `misfit` says how the schedule misses the run's end.
    """

    stage: int
    modality: str
    trained: int
    frozen: int
    weights: int
    activations: int | None
    gpus: int
    samples: int | None
    batch: int | None
    steps: int | None
    epochs: int
    misfit: str | None


def survey(recipe: Recipe) -> tuple[dict[str, int], list[StageSurvey]]:
    """Parameters of each part of a recipe's model, and its stages. Raises ConfigError for what cannot be built."""
    parts = meta_parts(recipe.model)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return counts, [_stage(parts, config, recipe.model) for config in recipe.stages.values()]


def meta_parts(config: ModelConfig) -> dict[str, nn.Module]:
    """Every part of the model on the meta device."""
    config = _unloaded(config)
    with torch.device("meta"):
        parts = {"llm": _llm(config)}
        width = parts["llm"].get_input_embeddings().weight.shape[1]
        for name, row in MODALITIES.items():
            if row.encoder == "vision" and config.vision is None:
                continue
            if row.encoder not in parts:
                parts[row.encoder] = row.build_encoder(config)
            parts[name] = row.build_interface(config, parts[row.encoder], width)
        if "context" in encoders(config).values():
            parts["context"] = _context(config.context)
    return parts


def _context(config: ContextConfig) -> nn.Module:
    from transformers import AutoModel

    visual = config.visual and VisionEncoder(VisionEncoderConfig(name=config.visual))
    if config.linguistic is None:
        return ContextEncoders(visual, None)
    name = config.linguistic.name
    bert = AutoModel.from_config(_sizes(config.linguistic, "context.linguistic"), trust_remote_code=False)
    return ContextEncoders(visual, CaptionEncoder(name, bert, None))


def _unloaded(config: ModelConfig) -> ModelConfig:
    """The same sizes, with nothing to be fetched for them; `tiny`'s characters where the recipe's own are not there."""
    own = config.tokenizer is not None and (config.tokenizer / "units.txt").exists()
    changes = {
        "tokenizer": config.tokenizer if own else BUNDLES / PACKAGED / "tokenizer",
        "vision": config.vision and config.vision.model_copy(update={"pretrained": False}),
    }
    return config.model_copy(update=changes).trained(("speech", "recognizer"))


def _llm(config: ModelConfig) -> nn.Module:
    """The language model as its `sizes` say, or as its own config.json does where that can be read."""
    from transformers import AutoModelForCausalLM

    llm = config.llm
    if llm.name is None:
        return CausalLM.build(llm, config.tokenizer).model
    if llm.sizes.get("model_type") == "chatglm":
        return ChatGLMModel(ChatGLMConfig(**{key: size for key, size in llm.sizes.items() if key != "model_type"}))
    sizes = _sizes(llm, "llm")
    with loading(f"llm.name {llm.name!r}"):
        return AutoModelForCausalLM.from_config(sizes, trust_remote_code=False)


def _sizes(named: LLMConfig | CaptionEncoderConfig, node: str) -> Any:
    """The configuration of a model of transformers, as `sizes` say or its own config.json, where that can be read."""
    from transformers import AutoConfig

    with loading(f"{node}.name {named.name!r}", f"copy its config.json into {node}.sizes"):
        if "model_type" in named.sizes:
            return AutoConfig.for_model(**named.sizes)
        return AutoConfig.from_pretrained(named.name, revision=named.revision, trust_remote_code=False)


def _stage(parts: dict[str, nn.Module], config: StageConfig, model: ModelConfig) -> StageSurvey:
    stage = find_stage(config, model)
    if config.lora:
        parts = parts | {"llm": deepcopy(parts["llm"])}
        parts["lora"] = add_lora(parts["llm"], config.lora)
    trained = {id(p): p.numel() for p in _parameters(parts, stage.trains)}
    names = {name.partition(".")[0] for name in (*stage.trains, *stage.frozen)}
    weights = sum(trained.values()) * TRAINED
    frozen = 0
    for name in names & parts.keys():
        own = [p.numel() for p in parts[name].parameters() if id(p) not in trained]
        frozen += sum(own)
        weights += sum(own) * (HALF if name == "llm" else FROZEN)
    expected = config.expected
    batch = expected and max(1, config.batch_cost // expected.cost)
    steps = expected and -(-expected.samples // (batch * config.gpus * config.accumulate))
    return StageSurvey(
        config.stage,
        config.modality,
        sum(trained.values()),
        frozen,
        weights,
        expected and _activations(parts, names, stage.trains, batch, expected.tokens),
        config.gpus,
        expected and expected.samples,
        batch and batch * config.gpus * config.accumulate,
        steps,
        config.epochs,
        steps and misfit(config.schedule, steps * config.epochs),
    )


def _parameters(parts: dict[str, nn.Module], layers: tuple[str, ...]) -> Iterator[nn.Parameter]:
    for layer in layers:
        name, _, rest = layer.partition(".")
        if name in parts:
            yield from parts[name].get_submodule(rest).parameters()


def _activations(parts: dict[str, nn.Module], names: set[str], trains: tuple[str, ...], batch: int, tokens: int) -> int:
    """What one batch keeps for the backward pass: the LLM's layers, through which gradients go, and logits.

    The interfaces' own are small beside it; frozen encoders keep nothing.
    """
    if "llm" not in names or trains[0].startswith("recognizer"):
        return 0
    config = parts["llm"].config
    layers, width, vocabulary = config.num_hidden_layers, config.hidden_size, config.vocab_size
    return batch * tokens * (KEPT * width * layers + LOGITS * vocabulary // 2)  # about half of the tokens are answers
