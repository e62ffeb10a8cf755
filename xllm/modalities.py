"""The table of modalities: how each kind of input becomes embeddings that an LLM reads.

A new one is one file with its encoder and interface, and one row here (docs/adding-a-modality.md). The order of the
rows is the order of the prompt (paper 3.2.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xllm.errors import ConfigError

if TYPE_CHECKING:  # manifests read this table, and must not wait for torch
    import torch
    from torch import Tensor, nn

    from xllm.config import ModelConfig


IMAGES_ON_CPU = 4  # at once: what lies between layers then stays in the processor's cache; 128 took five times as long


@dataclass(frozen=True)
class Modality:
    """One row of the table; its key is the name of the interface's part in XLLM and of the key in manifests.

    `encoder` names the frozen part, which several modalities may share. `load` reads a file (drawing augmentation
    from a generator, if one is given) to features of one input; `tokens` takes several inputs' features through the
    encoder, to [L, ...] each. The interface maps tokens [B, L, ...] with lengths [B] to embeddings [B, L', D_llm] and
    lengths; its last layer is called `adapter`.
    """

    tags: tuple[str, str]
    encoder: str
    build_encoder: Callable[[ModelConfig], nn.Module]
    build_interface: Callable[[ModelConfig, nn.Module, int], nn.Module]
    load: Callable[[Any, ModelConfig, torch.Generator | None], Tensor]
    tokens: Callable[[nn.Module, list[Tensor]], list[Tensor]]


def _vision_encoder(config: ModelConfig) -> nn.Module:
    from xllm.vision.encoder import VisionEncoder

    if config.vision is None:
        raise ConfigError("this system has no eyes: model.vision is not set")
    return VisionEncoder(config.vision)


def _vision_interface(config: ModelConfig, encoder: nn.Module, llm_width: int, frames: int = 1) -> nn.Module:
    from xllm.speech.units import Units
    from xllm.vision.interface import VisionInterface
    from xllm.vision.naming import load_names

    if config.image.motion and not config.image.draft:
        raise ConfigError("image.motion needs image.draft: it says what happens after a name")
    if not config.image.draft:
        return VisionInterface(config.image, encoder.width, llm_width, frames=frames, patches=encoder.tokens)
    if config.tokenizer is None:
        raise ConfigError("image.draft needs model.tokenizer: give the folder with units.txt and names.txt")
    names, characters = load_names(config.tokenizer), len(Units.load(config.tokenizer).characters)
    return VisionInterface(config.image, encoder.width, llm_width, names, characters, frames, encoder.tokens)


def _film_interface(config: ModelConfig, encoder: nn.Module, llm_width: int) -> nn.Module:
    return _vision_interface(config, encoder, llm_width, config.frames)


def _image(source: Path, config: ModelConfig, generator: torch.Generator | None) -> Tensor:
    """One picture as one frame: [1, 3, H, W] in 0..1; or what stands in for it, [1, 2, D]."""
    import torch

    from xllm.features import picture_features, redraw
    from xllm.pictures import load_picture
    from xllm.vision.standins import is_stand_in, load_stand_in

    if is_stand_in(source):
        return load_stand_in(source)
    pixels = picture_features(load_picture(source)[None], config.vision.size, generator)
    if generator is None or torch.rand((), generator=generator) >= config.vision.redraw:
        return pixels
    return redraw(pixels, generator)


def _video(source: Path, config: ModelConfig, generator: torch.Generator | None) -> Tensor:
    """A film as T frames: [T, 3, H, W] in 0..1, all cropped alike."""
    from xllm.features import picture_features
    from xllm.films import load_frames

    return picture_features(load_frames(source, config.frames), config.vision.size, generator, flip=False)


def _see(encoder: nn.Module, features: list[Tensor]) -> list[Tensor]:
    """Patch tokens [T, N, D] of each input's frames [T, 3, H, W]; [1, 2, D] stand in for an image."""
    import torch

    device = next(encoder.parameters()).device
    seen = [frames for frames in features if frames.dim() == 4]
    if seen:
        images = torch.cat(seen).to(device)
        parts = images.split(IMAGES_ON_CPU if device.type == "cpu" else len(images))
        tokens = iter(torch.cat([encoder(part) for part in parts]).split([len(frames) for frames in seen]))
    return [next(tokens) if x.dim() == 4 else encoder.complete(x.to(device)) for x in features]


def _recognizer(config: ModelConfig) -> nn.Module:
    from xllm.speech.recognizer import Recognizer
    from xllm.speech.units import Units

    if config.tokenizer is None:
        raise ConfigError("model.tokenizer is not set: give the folder with units.txt")
    return Recognizer(config.recognizer, Units.load(config.tokenizer))


def _speech_interface(config: ModelConfig, recognizer: nn.Module, llm_width: int) -> nn.Module:
    from xllm.speech.interface import SpeechInterface

    return SpeechInterface(config.speech, recognizer.token_width, llm_width)


def _speech(source: Any, config: ModelConfig, generator: torch.Generator | None) -> Tensor:
    """Features [F, mels] of a file's sound."""
    from xllm.features import augment, speech_features
    from xllm.media import load_audio

    encoder = config.recognizer.encoder
    features = speech_features(load_audio(source), encoder)
    return features if generator is None else augment(features, generator, encoder.form)


def _hear(recognizer: nn.Module, features: list[Tensor]) -> list[Tensor]:
    """Token vectors [L, D] of each utterance's fbank [F, mels]."""
    return recognizer.hear(features)


MODALITIES: dict[str, Modality] = {
    "image": Modality(("<Image>", "</Image>"), "vision", _vision_encoder, _vision_interface, _image, _see),
    "video": Modality(("<Video>", "</Video>"), "vision", _vision_encoder, _film_interface, _video, _see),
    "speech": Modality(("<Speech>", "</Speech>"), "recognizer", _recognizer, _speech_interface, _speech, _hear),
}
