"""The image encoder: any timm model, a transformer up to a block, its own norm last."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_models import timm_folder
from torch.nn.functional import layer_norm

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
        ({"name": "test_resnet", "blocks": 2}, "vision.blocks is for vision transformers, which 'test_resnet' is not"),
        ({"name": "coat_lite_tiny", "size": 20}, "'coat_lite_tiny' at 20 pixels cannot be loaded .*vision.size"),
        ({"name": "test_resnet", "pretrained": "/nowhere"}, "vision.pretrained '/nowhere' has no model.safetensors"),
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


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "mambaout_femto"])
def test_features_of_any_model_are_tokens_and_their_mean_is_the_last(name):
    torch.manual_seed(0)
    encoder = VisionEncoder(VisionEncoderConfig(name=name)).eval()
    model = timm.create_model(name, num_classes=0).eval()
    model.load_state_dict(encoder.vit.state_dict())
    cfg = model.pretrained_cfg
    pixels = torch.rand(2, *cfg["input_size"])
    mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        out, features = encoder(pixels), model.forward_features((pixels - mean) / std)
        single = encoder(pixels[1:])
    if features.shape[-1] != encoder.width:
        features = features.permute(0, 2, 3, 1)
    tokens = torch.stack([features[:, y, x] for y in range(features.shape[1]) for x in range(features.shape[2])], 1)
    wanted = layer_norm(torch.cat([tokens, tokens.mean(1, keepdim=True)], 1), (encoder.width,), eps=1e-6)
    assert out.shape == (2, encoder.tokens, encoder.width)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(single[0], out[1], atol=1e-5, rtol=1e-4)


def test_tokens_without_a_map_stay_as_they_are():
    encoder = VisionEncoder(VisionEncoderConfig(name="mixer_s32_224")).eval()
    assert encoder.tokens == 49 and encoder(torch.rand(1, 3, 224, 224)).shape == (1, 49, encoder.width)


def test_size_and_normalisation_are_the_models_own_unless_they_are_given():
    own = VisionEncoder(VisionEncoderConfig(name="tf_efficientnet_lite2"))
    assert (own.config.size, own.tokens, own.width) == (260, 82, 1280)
    assert own.config.mean == (0.5, 0.5, 0.5) and own.mean.flatten().tolist() == [0.5] * 3
    given = VisionEncoder(VisionEncoderConfig(name="test_resnet", size=96, mean=(0.1, 0.2, 0.3)))
    assert (given.config.size, given.tokens, given.config.mean) == (96, 10, (0.1, 0.2, 0.3))
    assert given.config.std == (0.5, 0.5, 0.5)
    scratch = VisionEncoder(SMALL)
    assert scratch.config.mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(("name", "size"), [("test_efficientnet", None), ("test_resnet", 96), ("test_vit", None)])
def test_a_folder_with_timms_weights_is_a_beginning(tmp_path, name, size):
    model = timm_folder(name, tmp_path)
    config = VisionEncoderConfig(name=name, size=size, pretrained=str(tmp_path))
    encoder, other = VisionEncoder(config).eval(), VisionEncoder(config.model_copy(update={"pretrained": False})).eval()
    other.vit.load_state_dict({key: model.state_dict()[key] for key in other.vit.state_dict()})
    pixels = torch.rand(1, 3, encoder.config.size, encoder.config.size)
    assert torch.equal(encoder(pixels), other(pixels))


def test_weights_that_are_not_the_models_are_refused(tmp_path):
    model = timm_folder("test_resnet", tmp_path)
    with pytest.raises(ConfigError, match="'test_efficientnet' cannot be loaded .*Missing key.*as timm saves them"):
        VisionEncoder(VisionEncoderConfig(name="test_efficientnet", pretrained=str(tmp_path)))
    lacking = {key: value for key, value in model.state_dict().items() if key != "bn1.running_var"}
    save_file(lacking, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match='Missing key.*"bn1.running_var"'):
        VisionEncoder(VisionEncoderConfig(name="test_resnet", pretrained=str(tmp_path)))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_what_the_classifier_says_is_one_more_token(name):
    torch.manual_seed(0)
    config = VisionEncoderConfig(name=name, classes=True)
    encoder, plain = VisionEncoder(config).eval(), VisionEncoder(config.model_copy(update={"classes": False})).eval()
    plain.vit.load_state_dict({key: encoder.vit.state_dict()[key] for key in plain.vit.state_dict()})
    pixels = torch.rand(2, 3, encoder.config.size, encoder.config.size)
    with torch.no_grad():
        out = encoder(pixels)
        logits = encoder.vit((pixels - encoder.mean) / encoder.std)  # timm's own way to them
        torch.testing.assert_close(out[:, :-1], plain(pixels))
    said = sum(logits.softmax(1)[:, c, None] * encoder.vit.get_classifier().weight[c] for c in range(1000))
    torch.testing.assert_close(out[:, -1], layer_norm(said, (encoder.width,), eps=1e-6), atol=1e-5, rtol=1e-4)
    assert encoder.tokens == plain.tokens + 1 == out.shape[1]


def test_features_are_completed_to_an_image():
    encoder = VisionEncoder(VisionEncoderConfig(name="test_efficientnet", classes=True)).eval()
    features = torch.randn(3, 2, encoder.width)
    out = encoder.complete(features)
    norm = layer_norm(features, (encoder.width,), eps=1e-6)
    torch.testing.assert_close(out, torch.cat([norm[:, :1]] * (encoder.tokens - 1) + [norm[:, 1:]], 1))
    with pytest.raises(ConfigError, match=r"\[2, 7\] features.*test_efficientnet takes \[2, 256\]"):
        encoder.complete(torch.randn(1, 2, 7))
    plain = VisionEncoder(VisionEncoderConfig(name="test_efficientnet"))
    with pytest.raises(ConfigError, match="only with vision.classes"):
        plain.complete(features)


@pytest.mark.parametrize(
    ("config", "message"),
    [(SMALL, "which the encoder lacks"), (NAMED, "which 'vit_tiny_patch16_224' lacks")],
)
def test_a_classifier_of_something_else_is_refused(config, message):
    with pytest.raises(ConfigError, match=f"vision.classes needs .*{message}"):
        VisionEncoder(config.model_copy(update={"classes": True}))
