"""The frozen image encoder: any timm model, a vision transformer up to a given block, then a LayerNorm of its own."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xllm.config import VisionEncoderConfig
from xllm.errors import ConfigError
from xllm.trust import loading

GROUPS = 8  # of channels normalised together
WEIGHTS = "model.safetensors"  # of timm, in a folder
REMEDY = "give a name of timm.list_models(), or a folder that timm has saved"


class VisionEncoder(nn.Module):
    """Images [B, 3, H, W] to tokens [B, N, D].

    Of a vision transformer these are its patches, the class token first (paper A.3: 39 of ViT-g's 40 blocks, without
    its final norm). Of other models they are what timm's `forward_features` gives; a map of features, as of
    convolutions, is read row by row, and its mean is the last token, which stands for the whole image. With
    `config.classes` one more is behind: the classifier's weight vectors [D], averaged by their classes' probabilities.
    """

    def __init__(self, config: VisionEncoderConfig):
        """Build the model named in `config`, or a small transformer of the given sizes.

        Raises ConfigError when timm does not know the name, its weights cannot be had, it has too few blocks, or no
        classifier of its features where `config.classes` asks for one.
        """
        super().__init__()
        self.config = config = described(config)
        self.vit = _small(config) if config.name is None else _named(config)  # checkpoints call any model so
        if _is_transformer(self.vit):
            self._stop_after(config.blocks)
            self.tokens = self.vit.patch_embed.num_patches + self.vit.num_prefix_tokens  # N
        elif config.blocks is not None:
            raise ConfigError(f"vision.blocks is for vision transformers, which {config.name!r} is not; leave it out")
        else:
            self.tokens = self._count()
        if config.classes:
            self._check_classifier()
        # ln_vision of the published systems; a wrong epsilon breaks parity with their weights (FACTS 4).
        self.norm = nn.LayerNorm(self.vit.num_features, eps=1e-6)
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", deviation, persistent=False)

    @property
    def width(self) -> int:
        """D."""
        return self.vit.num_features

    def _stop_after(self, blocks: int | None) -> None:
        have = len(self.vit.blocks)
        blocks = have if blocks is None else blocks
        if not 0 < blocks <= have:
            raise ConfigError(f"vision.blocks is {blocks}, {self.config.name or 'the encoder'} has {have}")
        del self.vit.blocks[blocks:]
        self.vit.norm = nn.Identity()

    def _check_classifier(self) -> None:
        name, classifier = self.config.name, None if self.config.name is None else self.vit.get_classifier()
        if _is_transformer(self.vit) or not isinstance(classifier, nn.Linear):
            what = "the encoder" if name is None else repr(name)
            raise ConfigError(f"vision.classes needs a linear classifier of features, which {what} lacks")
        if classifier.in_features != self.width:
            raise ConfigError(f"vision.classes: the classifier of {name!r} reads no features of its")

    @torch.no_grad()
    def _count(self) -> int:
        """N of a model that does not say it: of one image. Raises ConfigError when it gives no tokens."""
        name, size = self.config.name, self.config.size
        self.vit.eval()  # batch norm must not take the image for data
        with loading(f"vision.name {name!r} at {size} pixels", "give another vision.size, or another model"):
            tokens = self._features(torch.zeros(1, 3, size, size))
        self.vit.train()
        if tokens.shape[-1] != self.vit.num_features:
            raise ConfigError(f"vision.name {name!r}: its features are not {self.vit.num_features} wide, as it says")
        return tokens.shape[1]

    def _features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels to tokens [B, N, D], before the last norm."""
        tokens = features = self.vit.forward_features(pixels)
        if features.dim() == 4:
            tokens = features.flatten(1, 2) if self._channels_last else features.flatten(2).mT
            tokens = torch.cat([tokens, tokens.mean(1, keepdim=True)], 1)
        if not self.config.classes:
            return tokens
        return torch.cat([tokens, self.mean_class(self.vit.forward_head(features))[:, None]], 1)

    def mean_class(self, logits: Tensor) -> Tensor:
        """The classifier's weight vectors, averaged by what `logits` [B, C] say of their classes: [B, D]."""
        return logits.softmax(-1) @ self.vit.get_classifier().weight

    @property
    def _channels_last(self) -> bool:
        """Whether a map of features is [B, H, W, D], not [B, D, H, W]."""
        return getattr(self.vit, "output_fmt", None) == "NHWC"

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels in 0..1, float [B, 3, H, W] of the configured size -> tokens [B, N, D]."""
        return self.norm(self._features((pixels - self.mean) / self.std))

    def complete(self, features: Tensor) -> Tensor:
        """Tokens [B, N, D] of images of which only the last two are known, [B, 2, D] before the last norm.

        The first of these, the mean, stands for the whole map. Raises ConfigError when they are not this encoder's.
        """
        if not self.config.classes or features.shape[1:] != (2, self.width):
            raise ConfigError(
                f"{list(features.shape[1:])} features stand in for an image; {self.config.name or 'the encoder'} takes "
                f"[2, {self.width}] that it made, and only with vision.classes"
            )
        mean, classes = features.split(1, 1)
        return self.norm(torch.cat([mean.expand(-1, self.tokens - 1, -1), classes], 1))


def described(config: VisionEncoderConfig) -> VisionEncoderConfig:
    """The same encoder where all is said: size and normalisation are the named model's own unless they are given.

    A folder with weights gets its whole path. Raises ConfigError when timm does not know the name.
    """
    from timm.data import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, resolve_data_config

    own = {"size": 224, "mean": OPENAI_CLIP_MEAN, "std": OPENAI_CLIP_STD}
    if config.name is not None:
        published = resolve_data_config(pretrained_cfg=_arguments(config)["pretrained_cfg"])
        own = {"size": published["input_size"][-1], "mean": published["mean"], "std": published["std"]}
    changes: dict[str, Any] = {key: value for key, value in own.items() if getattr(config, key) is None}
    if isinstance(config.pretrained, str):
        changes["pretrained"] = str(Path(config.pretrained).resolve())
    return config.model_copy(update=changes)


def _is_transformer(model: nn.Module) -> bool:
    """Whether it is a stack of blocks over patches with one norm behind, as timm's vision transformers are."""
    return all(hasattr(model, name) for name in ("patch_embed", "num_prefix_tokens", "blocks", "norm"))


def _arguments(config: VisionEncoderConfig) -> dict[str, Any]:
    """How timm makes the named model for images of the configured size."""
    from timm.models import resolve_model_input_args

    name = f"local-dir:{config.name}" if Path(config.name).is_dir() else config.name
    with loading(f"vision.name {config.name!r}", REMEDY):
        return resolve_model_input_args(name, {"img_size": config.size})


def _named(config: VisionEncoderConfig) -> nn.Module:
    """timm's model with its classifier, or without: taken off after loading, since only then timm asks for all."""
    import timm

    arguments, overlay = _arguments(config), None
    what, remedy = f"vision.name {config.name!r}", REMEDY
    if isinstance(config.pretrained, str):
        weights = Path(config.pretrained) / WEIGHTS
        if not weights.is_file():
            raise ConfigError(f"vision.pretrained {config.pretrained!r} has no {WEIGHTS}; give a folder that has")
        overlay = {"file": str(weights), "source": "", "custom_load": False}  # not from where timm would look
        what, remedy = f"{weights} for {config.name!r}", "give all weights of that model, as timm saves them"
    with loading(what, remedy):
        model = timm.create_model(**arguments, pretrained=bool(config.pretrained), pretrained_cfg_overlay=overlay)
        if not config.classes:
            model.reset_classifier(0)
    return model


def _small(config: VisionEncoderConfig) -> nn.Module:
    """A vision transformer of the configured sizes."""
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    if config.channels and config.patch != 2 ** (len(config.channels) + 1):
        raise ConfigError(
            f"vision.patch is {config.patch}, {len(config.channels)} convolutions make it "
            f"{2 ** (len(config.channels) + 1)}"
        )
    return VisionTransformer(
        embed_layer=_convolutions(config.channels) if config.channels else PatchEmbed,
        img_size=config.size,
        patch_size=config.patch,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        num_classes=0,
        drop_path_rate=config.drop_path,
    )


def _convolutions(channels: tuple[int, ...]) -> type[nn.Module]:
    """A patch embedding that halves the picture once for each of `channels` and once more (Xiao et al., 2021).

    A transformer from scratch learns from few pictures when convolutions look at them first. Their weights are
    standardised (Qiao et al., 2019), which learns as fast as batch norm and leaves no statistics to freeze.
    """
    from timm.layers import PatchEmbed, StdConv2d

    class Stem(PatchEmbed):
        def __init__(self, *args, **named):
            super().__init__(*args, **named)
            layers: list[nn.Module] = []
            before = self.proj.in_channels
            for after in channels:
                for inner, stride in ((before, 2), (after, 1)):
                    layers += [StdConv2d(inner, after, 3, stride, 1), nn.GroupNorm(GROUPS, after), nn.GELU()]
                before = after
            self.proj = nn.Sequential(*layers, StdConv2d(before, self.proj.out_channels, 3, 2, 1))

    return Stem
