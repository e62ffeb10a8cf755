"""What each stage trains, on what, by which loss. Stages are data: the trainer does not know one from another."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from xllm import checkpoint
from xllm.config import Recipe, StageConfig
from xllm.errors import ConfigError
from xllm.model import XLLM
from xllm.training.examples import Examples, SpeechExamples, TextExamples, TokenExamples


@dataclass(frozen=True)
class Stage:
    """One row of the paper's training plan.

    `trains` are the parts whose parameters move, `frozen` the parts needed beside them; `loss` maps a batch to its
    losses; `examples` makes the examples of some manifests, `training` or not.
    """

    trains: tuple[str, ...]
    frozen: tuple[str, ...]
    loss: Callable[[XLLM, dict], dict[str, Tensor]]
    examples: Callable[..., Examples]


def _text(model: XLLM, recipe: Recipe, config: StageConfig, manifests, training: bool, progress) -> Examples:
    from xllm.speech.units import Units

    return TextExamples(manifests, model.prompt, Units.load(recipe.model.tokenizer))


def _speech(model: XLLM, recipe: Recipe, config: StageConfig, manifests, training: bool, progress) -> Examples:
    cache = config.cache and config.cache / ("train" if training else "dev")
    return SpeechExamples(
        manifests,
        model.recognizer.units,
        recipe.model.recognizer.encoder.mels,
        training and config.augment,
        cache,
        progress,
    )


def _tokens(model: XLLM, recipe: Recipe, config: StageConfig, manifests, training: bool, progress) -> Examples:
    split = "train" if training else "dev"
    return TokenExamples(
        manifests,
        model.speech_tokens,
        model.recognizer,
        config.views if training else 1,
        recipe.seed,
        (config.cache or config.output / "cache") / split,
        weights_key(model.recognizer),
        config.cache and config.cache / split,
        progress,
    )


STAGES: dict[tuple[int, str], Stage] = {
    (0, "text"): Stage(("llm",), (), lambda model, batch: model.text_loss(**batch), _text),
    (1, "speech"): Stage(("recognizer",), (), lambda model, batch: model.recognizer.losses(**batch), _speech),
    (2, "speech"): Stage(
        ("speech",), ("recognizer", "llm"), lambda model, batch: model.response_loss(**batch), _tokens
    ),
}


def weights_key(part: nn.Module) -> str:
    """A hash of a frozen part's weights: what was computed with other weights must not be reused."""
    digest = hashlib.sha256()
    for name, value in sorted(part.state_dict().items()):
        digest.update(name.encode() + value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


class StageModel(nn.Module):
    """A model with one stage's loss as its forward, which is what distributed wrappers need."""

    def __init__(self, model: XLLM, stage: Stage):
        super().__init__()
        self.model, self.stage = model, stage

    def train(self, mode: bool = True) -> "StageModel":
        """Training mode for what trains; what is frozen stays in eval mode."""
        super().train(False)
        for part in self.stage.trains:
            getattr(self.model, part).train(mode)
        self.training = mode
        return self

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """Losses of a batch, `loss` among them."""
        return self.stage.loss(self.model, batch)


def find_stage(config: StageConfig) -> Stage:
    """The stage of a configuration; raises ConfigError when it does not exist."""
    try:
        return STAGES[config.stage, config.modality]
    except KeyError:
        have = ", ".join(f"{stage} {modality}" for stage, modality in STAGES)
        raise ConfigError(f"stage {config.stage} {config.modality} does not exist; there are: {have}") from None


def build(recipe: Recipe, config: StageConfig) -> StageModel:
    """The parts that a stage needs, with weights from `start_from`; what does not train is frozen.

    Raises ConfigError when a frozen part has no weights to start from.
    """
    stage = find_stage(config)
    model = XLLM(recipe.model, (*stage.trains, *stage.frozen))
    loaded: set[str] = {"llm"} if recipe.model.llm.name else set()
    for folder in config.start_from:
        loaded |= checkpoint.load_into(model, Path(folder), (*stage.trains, *stage.frozen))
    if missing := set(stage.frozen) - loaded:
        raise ConfigError(
            f"stage {config.stage} needs trained weights of {', '.join(sorted(missing))}: "
            "name the runs of earlier stages in start_from"
        )
    if "speech" in stage.trains and "speech" not in loaded:
        model.begin_with_readings()
    model.requires_grad_(False)
    for part in stage.trains:
        getattr(model, part).requires_grad_(True)
    return StageModel(model, stage)
