"""What is beside speech: images and captions, for the recogniser's decoder (paper A.3) and for the language model.

The decoder attends to the patches of a CLIP and to the last hidden states of a BERT where `model.context` names them;
where it does not, the system's own image encoder and language model stand in. The language model gets images as its
image interface embeds them, and a caption as text.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from xllm.config import DecoderConfig, ModelConfig, VisionEncoderConfig
from xllm.errors import ConfigError
from xllm.modalities import MODALITIES
from xllm.speech.context import CaptionEncoder
from xllm.speech.decoder import Foreign
from xllm.vision.encoder import described

if TYPE_CHECKING:
    from xllm.model import XLLM

KINDS = {"images": "visual", "captions": "linguistic"}  # and what the decoder's configuration calls their features

logger = logging.getLogger(__name__)


class Sight(NamedTuple):
    """What is beside an utterance, as far as the system uses it.

    For the language model `embeddings` [Q, D_llm] of each image and the `caption`; for the recogniser's decoder
    features `visual` [N, D_visual] of the images and `linguistic` [N, D_linguistic] of the caption.
    """

    embeddings: Sequence[Tensor] = ()
    caption: str | None = None
    visual: Tensor | None = None
    linguistic: Tensor | None = None


def encoders(config: ModelConfig) -> dict[str, str]:
    """The part that encodes each kind of context, of the kinds that the recogniser's decoder attends to."""
    context, decoder = config.context, config.recognizer.decoder
    parts = {
        "images": "context" if context.visual else "vision",
        "captions": "context" if context.linguistic else "llm",
    }
    return {kind: part for kind, part in parts.items() if _blocks(decoder, kind)}


def _blocks(decoder: DecoderConfig, kind: str) -> tuple[int, ...]:
    """The decoder's blocks, from 1, that attend to a kind of context."""
    return getattr(decoder, f"{KINDS[kind]}_blocks")


def image_config(config: ModelConfig) -> ModelConfig:
    """The configuration by which images are read for the recogniser's decoder; `vision` is None where none are."""
    own = config.context.visual
    vision = described(VisionEncoderConfig(name=own)) if own else config.vision
    return config.model_copy(update={"vision": vision if "images" in encoders(config) else None})


def encoder_of(model: "XLLM", kind: str) -> nn.Module:
    """What encodes a kind of context for the recogniser's decoder."""
    part = encoders(model.config)[kind]
    return getattr(model.context, KINDS[kind]) if part == "context" else getattr(model, part)


def check_width(model: "XLLM", kind: str) -> None:
    """Raises ConfigError when the recogniser's decoder expects other features than those that it would be given."""
    part, key = encoders(model.config)[kind], f"{KINDS[kind]}_width"
    wanted, given = getattr(model.config.recognizer.decoder, key), encoder_of(model, kind).width
    if wanted != given:
        raise ConfigError(f"recognizer.decoder.{key} is {wanted}, but model.{part} encodes {kind} to {given}")


@torch.no_grad()
def _encode_images(model: "XLLM", images: Sequence[Tensor]) -> list[Tensor]:
    """Features [N, D_visual] of each image [1, 3, H, W]."""
    return _flat(MODALITIES["image"].tokens(encoder_of(model, "images"), list(images)))


def _flat(images: Sequence[Tensor]) -> list[Tensor]:
    """[N, D] of tokens [1, N, D] each."""
    return [tokens.flatten(0, 1) for tokens in images]


@torch.no_grad()
def _encode_captions(model: "XLLM", captions: Sequence[str]) -> list[Tensor]:
    """Features [N, D_linguistic] of each caption."""
    encoder = encoder_of(model, "captions")
    if isinstance(encoder, CaptionEncoder):
        return encoder(captions)
    rows = [encoder.embed(model.prompt.tokens(caption))[None] for caption in captions]
    masks = [torch.ones(row.shape[:2], dtype=torch.bool, device=row.device) for row in rows]
    return [encoder(row, mask)[0][0].to(model.device, torch.float32) for row, mask in zip(rows, masks, strict=True)]


def features(
    decoder: DecoderConfig, visual: Sequence[Tensor | None], linguistic: Sequence[Tensor | None]
) -> dict[str, Foreign | None]:
    """One batch's arguments of the decoder, as far as it has blocks that attend to them; None is what is absent."""
    rows = {"images": visual, "captions": linguistic}
    return {
        name: Foreign.of(rows[kind], getattr(decoder, f"{name}_width")) if _blocks(decoder, kind) else None
        for kind, name in KINDS.items()
    }


def recognition_loss(
    model: "XLLM",
    images: Sequence[Tensor | None],
    captions: Sequence[str | None],
    encoded: bool = False,
    **batch: Any,
) -> dict[str, Tensor]:
    """Stage 1 with images [1, 3, H, W], or if `encoded` their tokens [1, N, D], and captions beside some utterances.

    Paper A.3.
    """
    kinds, written = encoders(model.config), [caption and caption.strip() or None for caption in captions]
    encode = _flat if encoded else lambda given: _encode_images(model, given)
    visual = _where_given(images if "images" in kinds else (), encode)
    linguistic = _where_given(written if "captions" in kinds else (), lambda given: _encode_captions(model, given))
    return model.recognizer.losses(**batch, **features(model.config.recognizer.decoder, visual, linguistic))


def _where_given(values: Sequence[Any], encode: Callable[[list[Any]], list[Tensor]]) -> list[Tensor | None]:
    """What is there of `values`, encoded together, each in its place."""
    given = [value for value in values if value is not None]
    encoded = iter(encode(given) if given else ())
    return [None if value is None else next(encoded) for value in values]


class ContextReader:
    """Reads what is beside utterances for one engine of a system; what this cannot use is said, once, and left out."""

    def __init__(self, model: "XLLM", engine: str):
        self.model, self.engine = model, engine
        self._said: set[str] = set()

    @cached_property
    def unused(self) -> dict[str, str]:
        """Kinds of context that change nothing, and why. Raises ConfigError for features of another width."""
        if self.engine != "xllm":
            return self._unattended
        # Captions are text to the language model.
        return {} if hasattr(self.model, "image") else {"images": "this system has no image interface"}

    @cached_property
    def _unattended(self) -> dict[str, str]:
        """Kinds of context that the recogniser's decoder makes nothing of, and why."""
        reasons = {kind: self._why_unattended(kind) for kind in KINDS}
        return {kind: reason for kind, reason in reasons.items() if reason}

    def _why_unattended(self, kind: str) -> str | None:
        part = encoders(self.model.config).get(kind)
        if part is None:
            return "this system's recogniser has no blocks that attend to them"
        if missing := [name for name in ("recognizer", part) if not hasattr(self.model, name)]:
            return f"this system lacks the part {missing[0]}, which they need"
        decoder = self.model.recognizer.decoder
        crossing = [decoder.blocks[number - 1].cross for number in _blocks(decoder.config, kind)]
        if not any(cross.attention.out_proj.weight.any() for cross in crossing):  # they begin without effect
            return "this system's recogniser was never trained beside any (stage 1, masr)"
        check_width(self.model, kind)
        return None

    def require(self, kinds: Collection[str]) -> None:
        """Raises ConfigError when nothing of the `kinds` of context that are given can be used."""
        if kinds and all(kind in self.unused for kind in kinds):
            told = "; ".join(f"{kind} cannot be used: {self.unused[kind]}" for kind in sorted(kinds))
            raise ConfigError(f"engine {self.engine}: {told}; `xllm asr` transcribes without")

    def __call__(self, images: Sequence[Any], caption: str | None) -> Sight | None:
        """Of one utterance, images by their files; None where there is nothing. Raises MediaError, ConfigError."""
        caption = caption and caption.strip() or None
        given = {"images": bool(images), "captions": bool(caption)}
        if not any(given.values()):
            return None
        for kind, reason in self.unused.items():
            if given[kind] and kind not in self._said:
                self._said.add(kind)
                logger.warning("engine %s leaves out %s: %s", self.engine, kind, reason)
        with torch.inference_mode():
            embeddings = self._embeddings(images) if images and self.engine == "xllm" else ()
            visual = self._visual(images) if images and "images" not in self._unattended else None
            attended = caption and "captions" not in self._unattended
            return Sight(embeddings, caption, visual, _encode_captions(self.model, [caption])[0] if attended else None)

    def _embeddings(self, images: Sequence[Any]) -> list[Tensor]:
        if "images" in self.unused:
            return []
        model, load = self.model, MODALITIES["image"].load
        tokens = model.encode([{"image": [load(image, model.config, None) for image in images]}])
        return model.embed(tokens)[0]["image"]

    def _visual(self, images: Sequence[Any]) -> Tensor:
        config, load = image_config(self.model.config), MODALITIES["image"].load
        return torch.cat(_encode_images(self.model, [load(image, config, None) for image in images]))
