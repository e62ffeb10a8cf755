"""The configuration tree: one recipe is one system, its architecture and the stages that train it.

Everything is frozen and checked: an unknown key is an error that names the nearest known one, and nothing in
YAML is ever imported as code. `load_recipe` reads a file, applies `key=value` overrides and resolves paths.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xllm.errors import ConfigError

IGNORE = -100  # target id that carries no loss (PyTorch's convention)


class Config(BaseModel):
    """Base of every node: immutable, unknown keys rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SpeechEncoderConfig(Config):
    """Speech encoder (paper A.3): 2-D convolution, conformer blocks, max-pooling after some of them; or Whisper's."""

    form: Literal["conformer", "whisper"] = Field("conformer", description="which also says what features it hears")
    pretrained: str | None = Field(None, description="whisper: folder or hub name that it begins from")
    mels: int = Field(80, description="fbank bins")
    channels: int = Field(256, description="channels of the stride-2 convolution")
    width: int = 512
    ffn: int = 2048
    heads: int = 8
    kernel: int = Field(31, description="depthwise kernel, in frames of the block's rate")
    blocks: int = 18
    pool_after: tuple[int, ...] = Field((6, 12), description="halve the rate after these blocks, from 1")
    dropout: float = 0.1


class CIFConfig(Config):
    """Continuous integrate-and-fire (paper 3.2.1): the weight predictor's convolution."""

    channels: int = 512
    kernel: int = 5


class DecoderConfig(Config):
    """Decoder of the CIF-based recogniser (paper A.3)."""

    form: Literal["nar", "ar"] = Field("nar", description="non-autoregressive, or autoregressive")
    width: int = 512
    ffn: int = 2048
    heads: int = 8
    blocks: int = 6
    visual_blocks: tuple[int, ...] = Field((3, 4), description="blocks that attend to visual features, from 1")
    visual_width: int = Field(768, description="width of visual features (CLIP ViT-B/16: 768)")
    linguistic_blocks: tuple[int, ...] = Field((5, 6), description="blocks that attend to a caption's features")
    linguistic_width: int = Field(768, description="width of linguistic features (bert-base-chinese: 768)")
    dropout: float = 0.1
    syllables: bool = Field(False, description="read CIF vectors as tonal syllables before characters")


class RecognizerConfig(Config):
    """CIF-based ASR (stage 1)."""

    encoder: SpeechEncoderConfig = SpeechEncoderConfig()
    cif: CIFConfig = CIFConfig()
    decoder: DecoderConfig = DecoderConfig()
    label_smoothing: float = 0.1
    quantity_weight: float = 1.0
    ctc_weight: float = 0.25
    syllable_weight: float = Field(1.0, description="cross-entropy of syllables, when the decoder has them")


class SpeechInterfaceConfig(Config):
    """C-Former and S-Adapter (paper 3.1): a BERT transformer over CIF vectors, then one linear layer."""

    bert: str | None = Field("bert-base-chinese", description="pretrained BERT: folder or hub name")
    width: int = 768
    ffn: int = 3072
    heads: int = 12
    layers: int = 12
    dropout: float = 0.1
    max_tokens: int = Field(512, description="longest token sequence (BERT's positions)")
    text_weight: float = Field(0.0, description="pull towards the LLM's embeddings of the text, one token a character")


class VisionEncoderConfig(Config):
    """The frozen image encoder (paper 3.1): a timm vision transformer, or sizes to build one from scratch (stage 0)."""

    name: str | None = Field(
        None, description="timm model or folder, e.g. eva_giant_patch14_clip_224; none: the sizes below"
    )
    pretrained: bool = Field(False, description="fetch timm's weights of `name`")
    blocks: int | None = Field(None, description="stop after this many blocks (ViT-g: 39); none: all")
    size: int = Field(224, description="side of the square picture, in pixels")
    mean: tuple[float, float, float] = Field((0.48145466, 0.4578275, 0.40821073), description="CLIP's")
    std: tuple[float, float, float] = Field((0.26862954, 0.26130258, 0.27577711), description="CLIP's")
    patch: int = 14
    channels: tuple[int, ...] = Field((), description="of convolutions before the transformer; 2^(n+1) is the patch")
    width: int = 1408
    depth: int = 40
    heads: int = 16
    drop_path: float = 0.0
    redraw: float = Field(0.0, description="share of training pictures drawn again by another hand (features.redraw)")


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


class VisionInterfaceConfig(Config):
    """Q-Former and I-Adapter, V-Adapter alike (paper 3.1; BLIP-2's sizes)."""

    queries: int = Field(32, description="learned queries Q: embeddings a picture becomes")
    width: int = 768
    ffn: int = 3072
    heads: int = 12
    layers: int = 12
    dropout: float = 0.1
    draft: bool = Field(False, description="queries begin as the name that stage 0's classifier gives the picture")
    motion: bool = Field(False, description="with draft: the query after a film's name begins as what happens in it")
    text_weight: float = Field(0.0, description="pull towards the LLM's embeddings of what is seen, where it is told")


class LLMConfig(Config):
    """The frozen language model: a folder or hub name, or sizes to build one from scratch (stage 0)."""

    name: str | None = Field(None, description="folder or hub name; none: built from the sizes below")
    revision: str | None = None
    sizes: dict[str, Any] = Field({}, description="of the named model (its config.json), to count what is not there")
    half_angles: bool = Field(False, description="ChatGLM-6B: rotary angles in 16 bits, as its release computes them")
    chat: bool = Field(False, description="the prompt stands in the model's own chat template, as its user's turn")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: as it is published")
    device_map: Literal["auto"] | None = Field(None, description="auto: spread over all devices, by accelerate")
    load_in: Literal["8bit", "4bit"] | None = Field(None, description="quantised while loading, by bitsandbytes")
    width: int = 256
    ffn: int = 768
    heads: int = 4
    layers: int = 6
    max_tokens: int = 512


class ModelConfig(Config):
    """The architecture: X2L interfaces around a frozen LLM (paper Figure 1)."""

    tokenizer: Path | None = Field(None, description="folder with units.txt (and the tiny LLM's tokenizer)")
    recognizer: RecognizerConfig = RecognizerConfig()
    context: ContextConfig = ContextConfig()
    speech: SpeechInterfaceConfig = SpeechInterfaceConfig()
    vision: VisionEncoderConfig | None = Field(None, description="image encoder; none: a system without eyes")
    image: VisionInterfaceConfig = Field(VisionInterfaceConfig(), description="image and video interface")
    blip2: str | None = Field(None, description="BLIP-2, folder or hub name: ViT and Q-Former begin as its own")
    frames: int = Field(8, description="frames T sampled from a film")
    llm: LLMConfig = LLMConfig()

    def trained(self, parts: Iterable[str]) -> "ModelConfig":
        """The same model where `parts` have weights of their own: nothing is fetched for them to begin from."""
        changes: dict[str, Config] = {}
        if "speech" in parts:
            changes["speech"] = self.speech.model_copy(update={"bert": None})
        if "recognizer" in parts:
            encoder = self.recognizer.encoder.model_copy(update={"pretrained": None})
            changes["recognizer"] = self.recognizer.model_copy(update={"encoder": encoder})
        return self.model_copy(update=changes)


class LoRAConfig(Config):
    """Low-rank updates of the language model's linear layers (Hu et al. 2021), which otherwise stays frozen."""

    rank: int = Field(8, gt=0)
    alpha: float = Field(16.0, description="updates are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = Field((), description="names of layers, e.g. q_proj; none: all linear ones but the head")


class ScheduleConfig(Config):
    """Learning rate over optimiser steps: warm up, hold, then decay."""

    kind: Literal["tri-stage", "cosine"] = Field("tri-stage", description="shape of the decay: exponential or cosine")
    warmup: int = 0
    hold: int = 0
    decay: int = Field(1, gt=0)
    start_lr: float = Field(1e-6, description="rate at step 0 of the warm-up")
    min_lr: float = Field(1e-8, description="rate after the decay")


class Expected(Config):
    """What a stage will meet, for estimates before its data are there (`train --meta`)."""

    samples: int = Field(gt=0, description="of all manifests")
    cost: int = Field(gt=0, description="mean cost of a sample, as batch_cost counts it")
    tokens: int = Field(128, gt=0, description="mean length of prompt, media and answer in the LLM")


class StageConfig(Config):
    """One stage: which parts train, on what, and how. Stages are data, not code (paper 3.2)."""

    stage: Literal[0, 1, 2, 3]
    modality: str = Field("speech", description="text, a modality (speech, image, video), masr, or all")
    start_from: tuple[Path, ...] = Field((), description="checkpoint folders to take parts from")
    trains: tuple[str, ...] = Field((), description="layers that move, of those that the stage trains; none: all")
    lora: LoRAConfig | None = Field(None, description="stages 2 and 3: train this beside them; the paper does not")
    train: tuple[Path, ...] = Field(description="manifests")
    dev: tuple[Path, ...] = ()
    output: Path = Field(description="folder of the run")
    cache: Path | None = Field(None, description="folder of computed features; none: beside the run, without fbanks")
    cache_gb: float = Field(100.0, gt=0, description="of that folder; what was not used for longest is deleted first")

    epochs: int = 1
    batch_cost: int = Field(20_000, description="padded size of a batch: fbank frames, or tokens without speech")
    max_cost: int = Field(3_000, description="longer samples are dropped and counted")
    window: int = Field(50, description="batches in one window of length-sorting")
    accumulate: int = 1
    gpus: int = Field(1, gt=0, description="that the batch is meant for, and estimates")
    expected: Expected | None = Field(None, description="samples, before the data are there")
    workers: int = 0
    views: int = Field(1, description="stage 2: differently augmented versions of each utterance in the cache")
    augment: bool = Field(True, description="SpecAugment and speed perturbation; crops; without, tokens are kept")
    flat_start: int = Field(0, description="stage 1: first epochs, tokens spread evenly over sound, no augmentation")

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    schedule: ScheduleConfig = ScheduleConfig()
    compile: bool = Field(
        False, description="the LLM, by torch.compile: some minutes at first, then less memory and time"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on GPU")
    average: int = Field(1, description="average this many best epochs, by dev loss")
    log_every: int = 20
    save_every: int = Field(500, description="optimiser steps between checkpoints")


class Recipe(Config):
    """A whole system as one YAML file.

    One that begins with `base: other.yaml` says only what is different there; `$name` in a path is the recipe's name.
    """

    name: str
    seed: int = 1
    model: ModelConfig = ModelConfig()
    stages: dict[str, StageConfig] = {}

    def stage(self, stage: int, modality: str | None) -> StageConfig:
        """Return the one stage that matches; raises ConfigError with what the recipe does have."""
        found = [s for s in self.stages.values() if s.stage == stage and modality in (None, s.modality)]
        if len(found) == 1:
            return found[0]
        have = ", ".join(f"--stage {s.stage} --modality {s.modality}" for s in self.stages.values())
        asked = f"--stage {stage}" + (f" --modality {modality}" if modality else "")
        problem = "is ambiguous" if found else "is not in the recipe"
        raise ConfigError(f"{asked} {problem} {self.name!r}; it has: {have or 'no stages'}")


def _first_error(error: ValidationError, source: str, root: type[BaseModel]) -> ConfigError:
    """One line for the first problem, with the nearest known key for an unknown one."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "value_error":
        return ConfigError(": ".join(filter(None, [source, where, str(problem["ctx"]["error"])])))
    if problem["type"] != "extra_forbidden":
        return ConfigError(f"{source}: {where}: {problem['msg']} (got {problem['input']!r})")
    node: Any = root
    for part in problem["loc"][:-1]:
        node = _config_of(node.model_fields[part].annotation) if part in node.model_fields else StageConfig
    known = list(node.model_fields)
    near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return ConfigError(f"{source}: unknown key {where!r}; {hint}")


def _config_of(annotation: Any) -> type[Config]:
    """The configuration in the type of a field: itself, or what is optional or many."""
    inner = (kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, Config))
    return next(inner, annotation)


def validate(model: type[Config], data: Any, source: str) -> Any:
    """Build `model` from plain data; raises ConfigError (one line, naming `source` and the key)."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _first_error(error, source, model) from None


def read_yaml(path: Path) -> Any:
    """Return the plain data of a YAML file; raises ConfigError when it is missing or not YAML."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None


def apply_overrides(data: dict, overrides: list[str], stage_key: str | None = None) -> None:
    """Set `a.b.c=value` (value in YAML) in `data`; keys that are no recipe field go to the chosen stage."""
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or not key:
            raise ConfigError(f"override {override!r} is not of the form key=value")
        path = key.split(".")
        if path[0] not in Recipe.model_fields and stage_key is not None:
            path = ["stages", stage_key, *path]
        node = data
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"override {override!r}: {part!r} is a value, not a section")
        node[path[-1]] = yaml.safe_load(value)


def load_recipe(path: Path, overrides: list[str] = (), stage: int | None = None, modality: str | None = None) -> Recipe:
    """Read a recipe, apply overrides (bare keys belong to the chosen stage) and check every key.

    Raises ConfigError for a missing file, broken YAML, an unknown key or a value of the wrong type.
    """
    data = _with_base(path)
    stages = data.get("stages") or {}
    keys = [
        key
        for key, value in stages.items()
        if isinstance(value, dict)
        and value.get("stage") == stage
        and modality in (None, value.get("modality", "speech"))
    ]
    apply_overrides(data, list(overrides), keys[0] if len(keys) == 1 else None)
    data["stages"] = _named(data.get("stages") or {}, str(data.get("name")))
    return validate(Recipe, data, str(path))


def _with_base(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    """The data of a recipe laid over that of its base."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of name, model and stages")
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str) or path in seen:
        raise ConfigError(f"{path}: 'base' names another recipe, beside this one")
    return _laid_over(_with_base(Path(path).parent / base, (*seen, path)), data)


def _laid_over(base: dict, data: dict) -> dict:
    """`base` with the values of `data` in their places; what is a mapping in both, key by key."""
    both = dict(base)
    for key, value in data.items():
        inner = isinstance(base.get(key), dict) and isinstance(value, dict)
        both[key] = _laid_over(base[key], value) if inner else value
    return both


def _named(data: Any, name: str) -> Any:
    """The data with the recipe's name where its strings say `$name`."""
    if isinstance(data, str):
        return data.replace("$name", name)
    if isinstance(data, list):
        return [_named(each, name) for each in data]
    return {key: _named(value, name) for key, value in data.items()} if isinstance(data, dict) else data


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, in the order of the fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
