"""The frozen image encoder: any timm vision transformer up to a given block, then a LayerNorm of its own."""

from pathlib import Path

import torch
from torch import Tensor, nn

from xllm.config import VisionEncoderConfig
from xllm.errors import ConfigError
from xllm.trust import loading

GROUPS = 8  # of channels normalised together


class VisionEncoder(nn.Module):
    """Pictures [B, 3, H, W] to patch tokens [B, N, D] (paper A.3: 39 of ViT-g's 40 blocks, without its final norm)."""

    def __init__(self, config: VisionEncoderConfig):
        """Build the transformer named in `config`, or a small one of the given sizes.

        Raises ConfigError when timm does not know the name, its weights cannot be had, or it has too few blocks.
        """
        super().__init__()
        self.config = config
        self.vit = _transformer(config)
        if not hasattr(self.vit, "blocks"):
            raise ConfigError(f"image encoder {config.name!r} is not a vision transformer: it has no blocks")
        have = len(self.vit.blocks)
        blocks = have if config.blocks is None else config.blocks
        if not 0 < blocks <= have:
            raise ConfigError(f"vision.blocks is {blocks}, {config.name or 'the encoder'} has {have}")
        del self.vit.blocks[blocks:]
        self.vit.norm = nn.Identity()
        # ln_vision of the published systems; a wrong epsilon breaks parity with their weights (FACTS 4).
        self.norm = nn.LayerNorm(self.vit.embed_dim, eps=1e-6)
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", deviation, persistent=False)

    @property
    def width(self) -> int:
        """D."""
        return self.vit.embed_dim

    @property
    def tokens(self) -> int:
        """N."""
        return self.vit.patch_embed.num_patches + self.vit.num_prefix_tokens

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels in 0..1, float [B, 3, H, W] of the configured size -> tokens [B, N, D], class token included."""
        return self.norm(self.vit.forward_features((pixels - self.mean) / self.std))


def _transformer(config: VisionEncoderConfig) -> nn.Module:
    import timm
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    if config.name is None:
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
    name = f"local-dir:{config.name}" if Path(config.name).is_dir() else config.name
    with loading(f"vision.name {config.name!r}", "give a name of timm.list_models(), or a folder that timm has saved"):
        return timm.create_model(name, pretrained=config.pretrained, num_classes=0, img_size=config.size)


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
