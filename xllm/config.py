"""The configuration tree: one recipe is one system, its architecture and the stages that train it.

Everything is frozen and checked: an unknown key is an error that names the nearest known one, and nothing in
YAML is ever imported as code. `load_recipe` reads a file, applies `key=value` overrides and resolves paths.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from xllm.errors import ConfigError
from xllm.nodes import Config, Kernel, Share, Transformer, check_blocks, validate
from xllm.yaml_files import apply_override, fill_name, lay_over, parse_override, read_recipe

IGNORE = -100  # target id that carries no loss (PyTorch's convention)


def _check_origin(part: "SpeechEncoderConfig | DecoderConfig") -> None:
    if part.pretrained is not None and part.form != "whisper":
        raise ValueError(f"pretrained: only form whisper begins from published weights, not {part.form}")


class SpeechEncoderConfig(Transformer):
    """Speech encoder (paper A.3): 2-D convolution, conformer blocks, max-pooling after some of them; or Whisper's."""

    form: Literal["conformer", "whisper"] = Field("conformer", description="which also says what features it hears")
    pretrained: str | None = Field(None, description="whisper: folder or hub name that it begins from")
    mels: PositiveInt = Field(80, description="fbank bins")
    channels: PositiveInt = Field(256, description="channels of the stride-2 convolution")
    width: PositiveInt = 512
    ffn: PositiveInt = 2048
    heads: PositiveInt = 8
    kernel: Kernel = Field(31, description="depthwise kernel, in frames of the block's rate")
    blocks: PositiveInt = 18
    pool_after: tuple[int, ...] = Field((6, 12), description="halve the rate after these blocks, from 1")
    dropout: Share = 0.1

    rotary: ClassVar[bool] = True

    @model_validator(mode="after")
    def _pools_are_after_blocks(self):
        if self.form == "conformer":
            check_blocks("pool_after", self.pool_after, self.blocks)
        _check_origin(self)
        return self


class CIFConfig(Config):
    """Continuous integrate-and-fire (paper 3.2.1): the weight predictor's convolution."""

    channels: PositiveInt = 512
    kernel: Kernel = 5


class DecoderConfig(Transformer):
    """Decoder of the CIF-based recogniser (paper A.3)."""

    form: Literal["nar", "ar", "whisper"] = Field(
        "nar", description="non-autoregressive, autoregressive, or Whisper's blocks, which attend to encoder frames"
    )
    pretrained: str | None = Field(None, description="whisper: folder or hub name that it begins from")
    width: PositiveInt = 512
    ffn: PositiveInt = 2048
    heads: PositiveInt = 8
    blocks: PositiveInt = 6
    visual_blocks: tuple[int, ...] = Field((3, 4), description="blocks that attend to visual features, from 1")
    visual_width: PositiveInt = Field(768, description="width of visual features (CLIP ViT-B/16: 768)")
    linguistic_blocks: tuple[int, ...] = Field((5, 6), description="blocks that attend to a caption's features")
    linguistic_width: PositiveInt = Field(768, description="width of linguistic features (bert-base-chinese: 768)")
    dropout: Share = 0.1
    syllables: bool = Field(False, description="read CIF vectors as tonal syllables before characters")

    rotary: ClassVar[bool] = True

    @model_validator(mode="after")
    def _a_block_attends_to_one_context(self):
        check_blocks("visual_blocks and linguistic_blocks", self.visual_blocks + self.linguistic_blocks, self.blocks)
        if self.form == "whisper" and self.syllables:
            raise ValueError("Whisper's blocks read no syllables: leave them out")
        _check_origin(self)
        return self


class RecognizerConfig(Config):
    """CIF-based ASR (stage 1)."""

    encoder: SpeechEncoderConfig = SpeechEncoderConfig()
    cif: CIFConfig = CIFConfig()
    decoder: DecoderConfig = DecoderConfig()
    label_smoothing: Share = 0.1
    quantity_weight: NonNegativeFloat = 1.0
    ctc_weight: NonNegativeFloat = 0.25
    syllable_weight: NonNegativeFloat = Field(1.0, description="cross-entropy of syllables, when the decoder has them")
    floor: Share = Field(0.0, description="sound whose text scores less is no clear speech and has none")

    @model_validator(mode="after")
    def _whispers_blocks_attend_to_frames(self):
        if self.decoder.form == "whisper" and self.decoder.width != self.encoder.width:
            raise ValueError(
                f"Whisper's blocks attend to encoder frames of their own width: decoder.width is {self.decoder.width}, "
                f"encoder.width {self.encoder.width}"
            )
        return self


class SpeechInterfaceConfig(Transformer):
    """C-Former and S-Adapter (paper 3.1): a BERT transformer over CIF vectors, then one linear layer."""

    bert: str | None = Field("bert-base-chinese", description="pretrained BERT: folder or hub name")
    width: PositiveInt = 768
    ffn: PositiveInt = 3072
    heads: PositiveInt = 12
    layers: PositiveInt = 12
    dropout: Share = 0.1
    max_tokens: PositiveInt = Field(512, description="longest token sequence (BERT's positions)")
    text_weight: NonNegativeFloat = Field(
        0.0, description="pull towards the LLM's embeddings of the text, one token a character"
    )
    counted: bool = Field(
        False,
        description="an answer of another number of characters than CIF counted gives way to the recogniser's text",
    )


class VisionEncoderConfig(Transformer):
    """The frozen image encoder (paper 3.1): any timm model, or sizes to build a transformer from scratch (stage 0)."""

    name: str | None = Field(
        None, description="timm model or folder, e.g. eva_giant_patch14_clip_224; none: the sizes below"
    )
    pretrained: bool | str = Field(
        False, description="begin from timm's weights of `name`: fetch them, or a folder with their model.safetensors"
    )
    blocks: PositiveInt | None = Field(
        None, description="of a vision transformer: stop after this many (ViT-g: 39); none: all"
    )
    classes: bool = Field(
        False, description="of a named model, no transformer: one more token of what its classifier says"
    )
    size: PositiveInt | None = Field(
        None, description="side of the square image, in pixels; none: the named model's own, or 224"
    )
    mean: tuple[float, float, float] | None = Field(None, description="none: the named model's own, or CLIP's")
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None, description="none: the named model's own, or CLIP's"
    )
    patch: PositiveInt = 14
    channels: tuple[PositiveInt, ...] = Field(
        (), description="of convolutions before the transformer; 2^(n+1) is the patch"
    )
    width: PositiveInt = 1408
    depth: PositiveInt = 40
    heads: PositiveInt = 16
    drop_path: Share = 0.0
    redraw: float = Field(
        0.0, ge=0, le=1, description="share of training pictures drawn again by another hand (features.redraw)"
    )


class CaptionEncoderConfig(Config):
    """A published BERT, frozen: what the recogniser's decoder reads of a caption are its last hidden states."""

    name: str = Field(description="folder or hub name, e.g. bert-base-chinese")
    revision: str | None = None
    sizes: dict[str, Any] = Field({}, description="of the named model (its config.json), to count what is not there")


class ContextConfig(Config):
    """Frozen encoders of what the recogniser's decoder attends to beside speech (paper A.3)."""

    visual: str | None = Field(
        None,
        description="CLIP's vision transformer (224 px) of timm, by name or folder, e.g. "
        "vit_base_patch16_clip_quickgelu_224.openai; none: the system's image encoder stands in",
    )
    linguistic: CaptionEncoderConfig | None = Field(None, description="none: the language model stands in")


class VisionInterfaceConfig(Transformer):
    """Q-Former and I-Adapter, V-Adapter alike (paper 3.1; BLIP-2's sizes)."""

    queries: PositiveInt = Field(32, description="learned queries Q: embeddings a picture becomes")
    width: PositiveInt = 768
    ffn: PositiveInt = 3072
    heads: PositiveInt = 12
    layers: PositiveInt = 12
    dropout: Share = 0.1
    draft: bool = Field(False, description="queries begin as the name that stage 0's classifier gives the picture")
    motion: bool = Field(False, description="with draft: the query after a film's name begins as what happens in it")
    text_weight: NonNegativeFloat = Field(
        0.0, description="pull towards the LLM's embeddings of what is seen, where it is told"
    )


class LLMConfig(Transformer):
    """The frozen language model: a folder or hub name, or sizes to build one from scratch (stage 0)."""

    name: str | None = Field(None, description="folder or hub name; none: built from the sizes below")
    revision: str | None = None
    sizes: dict[str, Any] = Field({}, description="of the named model (its config.json), to count what is not there")
    half_angles: bool = Field(False, description="ChatGLM-6B: rotary angles in 16 bits, as its release computes them")
    chat: bool = Field(False, description="the prompt stands in the model's own chat template, as its user's turn")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: as it is published")
    device_map: Literal["auto"] | None = Field(None, description="auto: spread over all devices, by accelerate")
    load_in: Literal["8bit", "4bit"] | None = Field(None, description="quantised while loading, by bitsandbytes")
    width: PositiveInt = 256
    ffn: PositiveInt = 768
    heads: PositiveInt = 4
    layers: PositiveInt = 6
    max_tokens: PositiveInt = 512

    rotary: ClassVar[bool] = True


class ModelConfig(Config):
    """The architecture: X2L interfaces around a frozen LLM (paper Figure 1)."""

    tokenizer: Path | None = Field(None, description="folder with units.txt (and the tiny LLM's tokenizer)")
    recognizer: RecognizerConfig = RecognizerConfig()
    context: ContextConfig = ContextConfig()
    speech: SpeechInterfaceConfig = SpeechInterfaceConfig()
    vision: VisionEncoderConfig | None = Field(None, description="image encoder; none: a system without eyes")
    image: VisionInterfaceConfig = Field(VisionInterfaceConfig(), description="image and video interface")
    blip2: str | None = Field(None, description="BLIP-2, folder or hub name: ViT and Q-Former begin as its own")
    frames: PositiveInt = Field(8, description="frames T sampled from a film")
    llm: LLMConfig = LLMConfig()

    def trained(self, parts: Iterable[str]) -> "ModelConfig":
        """The same model where `parts` have weights of their own: nothing is fetched for them to begin from."""
        changes: dict[str, Config] = {}
        if "speech" in parts:
            changes["speech"] = self.speech.model_copy(update={"bert": None})
        if "recognizer" in parts:
            own = {
                part: getattr(self.recognizer, part).model_copy(update={"pretrained": None})
                for part in ("encoder", "decoder")
            }
            changes["recognizer"] = self.recognizer.model_copy(update=own)
        if "vision" in parts and self.vision is not None:
            changes["vision"] = self.vision.model_copy(update={"pretrained": False})
        return self.model_copy(update=changes)


class LoRAConfig(Config):
    """Low-rank updates of the language model's linear layers (Hu et al. 2021), which otherwise stays frozen."""

    rank: int = Field(8, gt=0)
    alpha: PositiveFloat = Field(16.0, description="updates are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = Field((), description="names of layers, e.g. q_proj; none: all linear ones but the head")


class ScheduleConfig(Config):
    """Learning rate over optimiser steps: warm up, hold, then decay; without anything, a constant rate."""

    kind: Literal["constant", "tri-stage", "cosine"] = Field(
        "constant", description="after the warm-up: nothing, or a decay, exponential or along half a cosine"
    )
    warmup: NonNegativeInt = 0
    hold: NonNegativeInt = Field(0, description="steps between warm-up and decay")
    decay: PositiveInt | None = Field(None, description="steps from the peak to min_lr")
    start_lr: NonNegativeFloat = Field(1e-6, description="rate at step 0 of the warm-up")
    min_lr: NonNegativeFloat = Field(1e-8, description="rate after the decay")

    @model_validator(mode="after")
    def _the_kind_has_what_it_needs(self):
        if self.kind == "constant" and (self.hold or self.decay):
            raise ValueError("a constant rate has no hold and no decay; say kind: tri-stage or cosine")
        if self.kind != "constant" and self.decay is None:
            raise ValueError(f"{self.kind} needs decay: the steps from the peak to min_lr")
        if self.kind == "tri-stage" and self.min_lr == 0:
            raise ValueError("an exponential decay never gets to min_lr 0; give it more, or say kind: cosine")
        return self

    @property
    def end(self) -> int | None:
        """The step at which the decay ends, if there is one."""
        return self.decay and self.warmup + self.hold + self.decay


class Expected(Config):
    """What a stage will meet, for estimates before its data are there (`train --meta`)."""

    samples: int = Field(gt=0, description="of all manifests")
    cost: int = Field(gt=0, description="mean cost of a sample, as batch_cost counts it")
    tokens: int = Field(128, gt=0, description="mean length of prompt, media and answer in the LLM")


class StageConfig(Config):
    """One stage: which parts train, on what, and how. Stages are data, not code (paper 3.2)."""

    stage: Literal[0, 1, 2, 3]
    modality: str = Field("speech", description="text, a modality (speech, image, video), masr, or all")
    start_from: tuple[str, ...] = Field((), description="checkpoints to take parts from: folders, or names of models")
    trains: tuple[str, ...] = Field((), description="layers that move, of those that the stage trains; none: all")
    lora: LoRAConfig | None = Field(None, description="stages 2 and 3: train this beside them; the paper does not")
    train: tuple[Path, ...] = Field(min_length=1, description="manifests")
    dev: tuple[Path, ...] = ()
    output: Path = Field(description="folder of the run")
    cache: Path | None = Field(None, description="folder of computed features; none: beside the run, without fbanks")
    cache_gb: float = Field(100.0, gt=0, description="of that folder; what was not used for longest is deleted first")

    epochs: PositiveInt = 1
    batch_cost: PositiveInt = Field(
        20_000, description="padded size of a batch: fbank frames, or tokens without speech"
    )
    max_cost: PositiveInt = Field(3_000, description="longer samples are dropped and counted")
    window: PositiveInt = Field(50, description="batches in one window of length-sorting")
    accumulate: PositiveInt = 1
    gpus: int = Field(1, gt=0, description="that the batch is meant for, and estimates")
    expected: Expected | None = Field(None, description="samples, before the data are there")
    workers: NonNegativeInt = 0
    answers: bool = Field(
        True, description="stages 2 and 3: false trains on text_weight's pull alone, without a pass of the LLM"
    )
    depth: int | None = Field(
        None, ge=1, description="stage 2 speech: begin from states of Whisper's layers below, which stage 1 has cached"
    )
    views: PositiveInt = Field(
        1, description="of each utterance in the cache, differently augmented: stage 2, or Whisper's frozen layers"
    )
    augment: bool = Field(True, description="SpecAugment and speed perturbation; crops; without, tokens are kept")
    flat_start: NonNegativeInt = Field(
        0, description="stage 1: first epochs, tokens spread evenly over sound, no augmentation"
    )

    lr: PositiveFloat = 3e-4
    lr_scale: dict[str, PositiveFloat] = Field({}, description="times the rate, for layers by the beginning of a name")
    betas: tuple[Share, Share] = (0.9, 0.98)
    weight_decay: NonNegativeFloat = 0.01
    clip: NonNegativeFloat = Field(1.0, description="largest norm of the gradients; 0: any")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="none: a constant rate")
    compile: bool = Field(
        False, description="the LLM, by torch.compile: some minutes at first, then less memory and time"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on GPU")
    average: PositiveInt = Field(1, description="average this many best epochs, by dev loss")
    log_every: PositiveInt = 20
    save_every: PositiveInt = Field(500, description="optimiser steps between checkpoints")

    @model_validator(mode="after")
    def _lr_is_the_highest_rate(self):
        schedule = self.schedule
        for name, used in (("start_lr", schedule.warmup), ("min_lr", schedule.decay)):
            if used and getattr(schedule, name) > self.lr:
                raise ValueError(f"schedule.{name} {getattr(schedule, name)} is above lr {self.lr}")
        return self


class Recipe(Config):
    """A whole system as one YAML file.

    One that begins with `base: other.yaml` says only what is different there; `$name` in a path is the recipe's name.
    One without `model` has that of the first checkpoint that its stages start from.
    """

    name: str
    seed: int = Field(1, ge=0, lt=2**32)
    model: ModelConfig = ModelConfig()
    stages: dict[str, StageConfig] = {}

    def stage(self, stage: int | str, modality: str | None) -> StageConfig:
        """Return the one stage of this number or name; raises ConfigError with what the recipe does have."""
        found = [
            s
            for name, s in self.stages.items()
            if str(stage) in (name, str(s.stage)) and modality in (None, s.modality)
        ]
        if len(found) == 1:
            return found[0]
        have = ", ".join(f"{name} (--stage {s.stage} --modality {s.modality})" for name, s in self.stages.items())
        asked = f"--stage {stage}" + (f" --modality {modality}" if modality else "")
        problem = "is ambiguous" if found else "is not in the recipe"
        raise ConfigError(f"{asked} {problem} {self.name!r}; it has: {have or 'no stages'}")


def load_recipe(
    path: Path,
    overrides: list[str] = (),
    stage: int | str | None = None,
    modality: str | None = None,
    every: bool = False,
) -> Recipe:
    """Read a recipe, apply overrides (bare keys belong to the chosen stage, or to `every`) and check every key.

    A `stage` is a number or a name.

    Raises ConfigError for a missing file, broken YAML, an unknown key or a value that cannot be, and for a key of a
    stage where no one stage is chosen.
    """
    data = read_recipe(path)
    borrowed = "model" not in data
    stages = data.get("stages")
    stages = stages if isinstance(stages, dict) else {}
    chosen = [key for key, value in stages.items() if every or _is_stage(key, value, stage, modality)]
    for override in overrides:
        key, value = parse_override(override)
        for place in _places(key.split("."), chosen, every, list(stages)):
            data = apply_override(data, place, value, override)
    data["stages"] = fill_name(data.get("stages") or {}, str(data.get("name")))
    if borrowed:
        data["model"] = lay_over(_model_of_start(data["stages"]), data.get("model") or {})
    return validate(Recipe, data, str(path))


def _is_stage(name: str, data: Any, stage: int | str | None, modality: str | None) -> bool:
    known = isinstance(data, dict) and str(stage) in (name, str(data.get("stage")))
    return known and modality in (None, data.get("modality", "speech"))


def _places(key: list[str], chosen: list[str], every: bool, stages: list[str]) -> list[list[str]]:
    """Where an override goes: what is no key of a recipe, to the stages chosen.

    Raises ConfigError when a stage's key may belong to any of several, or to none.
    """
    if key[0] in Recipe.model_fields:
        return [key]
    if len(chosen) == 1 or every:
        return [["stages", stage, *key] for stage in chosen]
    if key[0] not in StageConfig.model_fields:
        return [key]  # which is unknown, and will be said to be
    raise ConfigError(
        f"{'.'.join(key)} is a stage's: choose one by --stage NAME, or write stages.NAME.{'.'.join(key)}; "
        f"the recipe has: {', '.join(chosen or stages) or 'no stages'}"
    )


def _model_of_start(stages: Any) -> dict:
    """The architecture of the first checkpoint that the stages start from; nothing if there is none."""
    from xllm.checkpoint import find, read_card

    each = [stage for stage in stages.values() if isinstance(stage, dict)] if isinstance(stages, dict) else []
    starts = [stage["start_from"] for stage in each if isinstance(stage.get("start_from"), list)]
    name = next((name for names in starts for name in names), None)
    return {} if name is None else read_card(find(name)).model.model_dump(mode="json")


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, in the order of the fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
