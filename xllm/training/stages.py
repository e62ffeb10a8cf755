"""What each stage trains, on what, by which loss. Stages are data: the trainer does not know one from another."""

import hashlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from torch import Tensor, nn

from xllm import checkpoint
from xllm.config import ModelConfig, Recipe, StageConfig
from xllm.context import check_width, encoder_of, encoders, image_config, recognition_loss
from xllm.errors import ConfigError
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.training.cache import Cache
from xllm.training.examples import Examples, PictureExamples, SpeechExamples, TextExamples
from xllm.training.looks import Looks
from xllm.training.responses import ResponseExamples
from xllm.training.states import States
from xllm.vision.blip2 import load_blip2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One row of the paper's training plan.

    `trains` are the parts (or layers of parts) whose parameters move, `frozen` the parts that must have been trained
    before; `loss` maps a batch to its
    losses; `examples` makes the examples of some manifests, `training` or not.
    """

    trains: tuple[str, ...]
    frozen: tuple[str, ...]
    loss: Callable[[XLLM, dict], dict[str, Tensor]]
    examples: Callable[..., Examples]


def _text(model: XLLM, recipe: Recipe, config: StageConfig, manifests, training: bool, progress) -> Examples:
    from xllm.speech.units import Units

    return TextExamples(manifests, model.prompt, Units.load(recipe.model.tokenizer))


def _cache(config: StageConfig) -> Cache:
    return Cache(config.cache or config.output.parent / "cache", config.cache_gb * 1e9)


def _speech(model: XLLM, recipe: Recipe, config: StageConfig, manifests, training: bool, progress) -> Examples:
    encoder = recipe.model.recognizer.encoder
    if config.flat_start and encoder.form == "whisper":
        raise ConfigError("flat_start is for encoders that begin from nothing; leave it 0 for Whisper's")
    states = None
    if config.cache and encoder.form == "whisper" and model.recognizer.encoder.frozen:
        versions = config.views if training and config.augment else 1
        states = _states(model, recipe, config, model.recognizer.encoder.frozen, versions, progress)
    looks = None
    if config.modality == "masr" and "images" in encoders(model.config) and not config.augment:
        images = encoder_of(model, "images")

        def looks(paths):
            seen = image_config(model.config)
            return Looks("image", paths, seen, images, _cache(config), weights_key(images), progress)

    return SpeechExamples(
        manifests,
        model.recognizer.units,
        encoder,
        training and config.augment,
        config.cache and _cache(config),
        progress,
        image_config(model.config) if config.modality == "masr" else None,
        states,
        looks,
    )


def _states(model: XLLM, recipe: Recipe, config: StageConfig, depth: int, versions: int, progress) -> Callable:
    """Of a list of paths, what the lower layers of Whisper make of each."""
    whisper = model.recognizer.encoder
    key = weights_key(whisper, whisper.above(depth))
    return lambda paths: States(paths, whisper, depth, key, versions, recipe.seed, _cache(config), progress)


def _responses(model: XLLM, recipe: Recipe, config: StageConfig, manifests, training: bool, progress) -> Examples:
    views = config.views if training else 1
    states = None
    if config.depth and hasattr(model, "recognizer"):
        if recipe.model.recognizer.encoder.form != "whisper":
            raise ConfigError("depth is of Whisper's encoder; leave it out")
        if config.depth > model.recognizer.encoder.whole:
            raise ConfigError(f"depth is {config.depth}, Whisper's encoder has {model.recognizer.encoder.whole}")
        states = _states(model, recipe, config, config.depth, views, progress)
    return ResponseExamples(
        manifests,
        model,
        tuple(MODALITIES) if config.modality == "all" else (config.modality,),
        views,
        training and config.augment,
        recipe.seed,
        _cache(config),
        {
            row.encoder: weights_key(getattr(model, row.encoder))
            for row in MODALITIES.values()
            if hasattr(model, row.encoder)
        },
        not config.augment,
        config.cache is not None,
        training and config.stage == 3,
        progress,
        states,
        config.answers,
    )


def _response_loss(model: XLLM, batch: dict) -> dict[str, Tensor]:
    return model.response_loss(**batch)


def _text_of_media(model: XLLM, batch: dict) -> dict[str, Tensor]:
    return model.response_loss(**batch, answers=False)


def _pictures(model: XLLM, recipe: Recipe, config: StageConfig, manifests, training: bool, progress) -> Examples:
    return PictureExamples(manifests, model, training and config.augment)


STAGES: dict[tuple[int, str], Stage] = {
    (0, "text"): Stage(("llm",), (), lambda model, batch: model.text_loss(**batch), _text),
    (0, "image"): Stage(("vision", "naming"), (), lambda model, batch: model.naming_loss(**batch), _pictures),
    (1, "speech"): Stage(("recognizer",), (), lambda model, batch: model.recognizer.losses(**batch), _speech),
    (1, "masr"): Stage(("recognizer",), (), lambda model, batch: recognition_loss(model, **batch), _speech),
    (2, "speech"): Stage(("speech",), ("recognizer", "llm"), _response_loss, _responses),
    (2, "image"): Stage(("image",), ("vision", "llm"), _response_loss, _responses),
    (2, "video"): Stage(("video",), ("vision", "llm"), _response_loss, _responses),
    (3, "all"): Stage(
        ("image.adapter", "video.adapter", "speech.adapter"),
        ("image", "video", "speech", "vision", "recognizer", "llm"),
        _response_loss,
        _responses,
    ),
}


def weights_key(part: nn.Module, without: Collection[str] = ()) -> str:
    """A hash of a part's weights, some left out: what was computed with other weights must not be reused."""
    digest = hashlib.sha256()
    for name, value in sorted(part.state_dict().items()):
        if name in without:
            continue
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
            self.model.get_submodule(part).train(mode)
        self.training = mode
        return self

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """Losses of a batch, `loss` among them."""
        return self.stage.loss(self.model, batch)


def find_stage(config: StageConfig, model: ModelConfig) -> Stage:
    """The stage of a configuration; raises ConfigError when it does not exist or does not train what is asked."""
    try:
        stage = STAGES[config.stage, config.modality]
        if config.modality == "masr":
            stage = replace(stage, frozen=_context(model))
        for layer in config.trains:
            if not f"{layer}.".startswith(tuple(f"{part}." for part in stage.trains)):
                raise ConfigError(
                    f"stage {config.stage} {config.modality} does not train {layer!r}, but {', '.join(stage.trains)}"
                )
        if not config.answers and (config.stage < 2 or config.lora):
            raise ConfigError("answers: false is for interfaces alone, of stages 2 and 3")
        if not config.answers:
            stage = replace(stage, loss=_text_of_media)
        if config.lora and config.stage < 2:
            raise ConfigError(f"lora is for stages 2 and 3, which train beside a frozen LLM, not for {config.stage}")
        return replace(stage, trains=(config.trains or stage.trains) + (("lora",) if config.lora else ()))
    except KeyError:
        have = ", ".join(f"{stage} {modality}" for stage, modality in STAGES)
        raise ConfigError(f"stage {config.stage} {config.modality} does not exist; there are: {have}") from None


def _context(model: ModelConfig) -> tuple[str, ...]:
    """What encodes images and captions for the recogniser."""
    if not (parts := encoders(model)):
        raise ConfigError(
            "stage 1 masr: set recognizer.decoder's visual_blocks or linguistic_blocks to what is to train"
        )
    return tuple(dict.fromkeys(parts.values()))


def build(recipe: Recipe, config: StageConfig) -> StageModel:
    """The parts that a stage needs, with weights from `start_from`; what does not train is frozen.

    Raises ConfigError when a frozen part has no weights to start from.
    """
    stage = find_stage(config, recipe.model)
    parts = {name.partition(".")[0] for name in (*stage.trains, *stage.frozen)}
    needed = {*stage.frozen, *(name.partition(".")[0] for name in stage.trains if "." in name)}
    drafts = {"naming"} if recipe.model.image.draft and "image" in stage.trains else set()
    cards = {folder: checkpoint.read_card(checkpoint.find(folder)) for folder in config.start_from}
    for folder, card in cards.items() if "llm" in parts else ():
        if card.lora not in (None, config.lora):
            raise ConfigError(f"{folder} was trained with LoRA on the LLM: give this stage the same lora ({card.lora})")
    trained = {part for card in cards.values() for part in card.parts}
    model = XLLM(recipe.model.trained(trained), parts | drafts, config.lora)
    loaded = {"context", *(["llm"] if recipe.model.llm.name else [])}
    if recipe.model.vision and recipe.model.vision.pretrained:
        loaded.add("vision")
    if recipe.model.recognizer.encoder.pretrained and config.stage == 1:  # the rest of it begins new
        loaded.add("recognizer")
    if recipe.model.blip2 and parts & {"vision", "image"}:  # runs in start_from come after, and count more
        loaded |= load_blip2(recipe.model.blip2, getattr(model, "vision", None), getattr(model, "image", None))
    new: list[str] = []
    for folder, card in cards.items():
        fits = checkpoint.fitting(card, recipe.model.llm)
        loaded |= checkpoint.load_into(model, folder, (parts | drafts) & fits, new=checkpoint.WITHOUT_EFFECT)
        new += checkpoint.lacking(model, folder, parts & fits)
    learned = {name.partition(".")[0] for name, _ in model.named_parameters()}
    if "image" not in loaded:  # it begins with what stage 0 calls a picture
        needed |= drafts
    if missing := (needed & learned) - loaded:
        raise ConfigError(
            f"stage {config.stage} needs trained weights of {', '.join(sorted(missing))}: "
            "name the runs of earlier stages in start_from"
        )
    for kind in encoders(recipe.model) if config.modality == "masr" else ():
        check_width(model, kind)
    if "speech" in stage.trains and "speech" not in loaded:
        model.begin_with_characters()
    if drafts and "image" not in loaded:
        model.begin_with_names()
    if "video" in stage.trains and "video" not in loaded:  # begins as a copy of the image interface
        for folder in config.start_from:
            loaded |= checkpoint.load_into(model, folder, {"video"}, {"image": "video"}, new=[".motion."])
    new += [part for part in stage.trains if part in learned - loaded]
    if config.start_from and new:
        logger.warning("not in %s, so it begins new: %s", ", ".join(config.start_from), ", ".join(new))
    model.requires_grad_(False)
    for part in stage.trains:
        try:
            model.get_submodule(part).requires_grad_(True)
        except AttributeError:
            raise ConfigError(f"the model has no layer {part!r}, which the stage is to train") from None
    return StageModel(model, stage)
