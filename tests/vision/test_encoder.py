"""The image encoder: any timm transformer up to a block, its own norm last."""

import pytest
import torch

from xllm.config import VisionEncoderConfig
from xllm.errors import ConfigError
from xllm.vision.encoder import VisionEncoder

SMALL = VisionEncoderConfig(size=32, patch=8, width=24, depth=3, heads=2)
CONVOLVED = SMALL.model_copy(update={"channels": (8, 16)})
NAMED = VisionEncoderConfig(name="vit_tiny_patch16_224", size=64)


@pytest.mark.parametrize(("config", "tokens", "width"), [(SMALL, 17, 24), (CONVOLVED, 17, 24), (NAMED, 17, 192)])
def test_tokens_are_normalised_and_batch_equals_single(config, tokens, width):
    torch.manual_seed(0)
    encoder = VisionEncoder(config).eval()
    pixels = torch.rand(3, 3, config.size, config.size)
    out = encoder(pixels)
    assert out.shape == (3, tokens, width) and encoder.width == width
    assert out.mean(-1).abs().max() < 1e-5 and encoder.norm.eps == 1e-6
    torch.testing.assert_close(encoder(pixels[1:2])[0], out[1], atol=1e-5, rtol=1e-4)


def test_it_stops_after_the_chosen_block():
    torch.manual_seed(0)
    whole = VisionEncoder(SMALL).eval()
    part = VisionEncoder(SMALL.model_copy(update={"blocks": 2})).eval()
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if "blocks.2." not in k})
    pixels = torch.rand(1, 3, 32, 32)
    states = []
    hook = whole.vit.blocks[1].register_forward_hook(lambda module, given, out: states.append(out))
    whole(pixels)
    hook.remove()
    torch.testing.assert_close(part(pixels), part.norm(states[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": 4}, "blocks is 4, the encoder has 3"),
        ({"blocks": 0}, "blocks is 0"),
        ({"channels": (8,)}, "patch is 8, 1 convolutions make it 4"),
        ({"name": "vit_of_nowhere"}, "'vit_of_nowhere' cannot be loaded .*timm.list_models"),
        ({"name": "resnet18"}, "'resnet18'"),
    ],
)
def test_what_cannot_be_built_is_said(change, message):
    with pytest.raises(ConfigError, match=message):
        VisionEncoder(SMALL.model_copy(update=change))


def test_vit_g_is_the_papers():
    """Shapes only: a billion parameters on no memory."""
    with torch.device("meta"):
        encoder = VisionEncoder(VisionEncoderConfig(name="eva_giant_patch14_clip_224", blocks=39))
    assert encoder.width == 1408 and len(encoder.vit.blocks) == 39
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6) == 986  # FACTS 4
