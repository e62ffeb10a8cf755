"""Q-Former and adapter: a fixed number of embeddings a picture, frames one after another."""

import pytest
import torch

from xllm.config import VisionEncoderConfig, VisionInterfaceConfig
from xllm.dictionary import begin_with
from xllm.errors import ConfigError
from xllm.model import XLLM
from xllm.vision.interface import VisionInterface


@pytest.fixture
def interface():
    torch.manual_seed(0)
    config = VisionInterfaceConfig(queries=5, width=16, ffn=32, heads=2, layers=3)
    return VisionInterface(config, encoder_width=24, llm_width=20).eval()


def test_a_film_is_its_frames_one_after_another(interface):
    tokens = torch.randn(2, 3, 7, 24)
    film, lengths = interface(tokens, torch.tensor([3, 2]))
    assert film.shape == (2, 15, 20) and lengths.tolist() == [15, 10]
    for frame in range(3):
        picture, size = interface(tokens[1:, frame : frame + 1], torch.tensor([1]))
        assert size.tolist() == [5]
        torch.testing.assert_close(film[1, 5 * frame : 5 * frame + 5], picture[0], atol=1e-5, rtol=1e-4)


def test_queries_differ_and_all_patches_count(interface):
    tokens = torch.randn(1, 1, 7, 24)
    before, _ = interface(tokens, torch.tensor([1]))
    assert (before[0, 0] - before[0, 1]).abs().max() > 1e-3
    for patch in range(7):
        changed = tokens.clone()
        changed[0, 0, patch] += 1
        assert (interface(changed, torch.tensor([1]))[0] - before).abs().max() > 1e-5


def test_queries_look_in_every_second_layer(interface):
    assert [layer.has_cross_attention for layer in interface.qformer.encoder.layer] == [True, False, True]
    assert not any("word_embeddings" in name or "intermediate." in name for name, _ in interface.named_parameters())


def test_blip2s_size():
    with torch.device("meta"):
        interface = VisionInterface(VisionInterfaceConfig(), 1408, 4096)
    former = sum(p.numel() for p in interface.qformer.parameters()) + interface.queries.numel()
    assert round(former / 1e6) == 105  # FACTS 4


@pytest.mark.parametrize("motion", [True, False])
def test_a_film_in_a_batch_is_what_it_is_alone(motion):
    torch.manual_seed(0)
    config = VisionInterfaceConfig(queries=5, width=16, ffn=32, heads=2, layers=3, draft=True, motion=motion)
    interface = VisionInterface(config, 24, 20, torch.tensor([[1, 2], [3, 0]]), 4, frames=4, patches=7).eval()
    tokens = torch.randn(2, 3, 7, 24)
    together, lengths = interface(tokens, torch.tensor([3, 2]))
    alone, _ = interface(tokens[1:, :2], torch.tensor([2]))
    assert lengths.tolist() == [15, 10]
    torch.testing.assert_close(together[1, :10], alone[0], atol=1e-5, rtol=1e-4)


def test_with_motion_frames_know_what_becomes_of_the_thing():
    torch.manual_seed(0)
    config = VisionInterfaceConfig(queries=5, width=16, ffn=32, heads=2, layers=3, draft=True, motion=True)
    names = torch.tensor([[1, 2]])
    interface = VisionInterface(config, 24, 20, names, 4, frames=3, patches=7).eval()
    tokens, three = torch.randn(1, 3, 7, 24), torch.tensor([3])
    film, back = (interface(t, three)[0].view(3, 5, 20) for t in (tokens, tokens.flip(1)))
    assert (film - back.flip(0)).abs().max() > 1e-3, "which frame comes first tells"
    moved = tokens.clone()
    moved[0, 2] = moved[0, 2].roll(1, 0)
    assert (interface(moved, three)[0].view(3, 5, 20)[0] - film[0]).abs().max() > 1e-4, "and where things are later"
    assert VisionInterface(config, 24, 20, names, 4).state_dict().keys() < interface.state_dict().keys()


def test_motion_without_a_name_is_refused(small_config):
    image = VisionInterfaceConfig(queries=5, width=16, ffn=32, heads=2, layers=3, motion=True)
    eyes = VisionEncoderConfig(size=16, patch=8, width=16, depth=1, heads=2)
    with pytest.raises(ConfigError, match="needs image.draft"):
        XLLM(small_config.model_copy(update={"image": image, "vision": eyes}), ["llm", "video"])


def test_a_film_has_one_name():
    torch.manual_seed(0)
    config = VisionInterfaceConfig(queries=4, width=64, ffn=64, heads=2, layers=2, draft=True)
    interface = VisionInterface(config, 24, 64, torch.tensor([[2, 3], [4, 0]]), characters=7, frames=2).eval()
    begin_with(interface.enter, interface.adapter, 0.05 * torch.randn(7, 64))
    with torch.no_grad():
        interface.naming.characters.weight.zero_()
        interface.naming.characters.weight[2, 0], interface.naming.characters.weight[4, 1] = 10.0, 10.0
    clear, faint = torch.zeros(5, 24), torch.zeros(5, 24)
    clear[:, 0], faint[:, 1] = 2.0, 0.5  # surely the first name; perhaps the second
    film, _ = interface(torch.stack([clear, faint])[None], torch.tensor([2]))
    (sure, other), _ = interface(torch.stack([clear, faint])[:, None], torch.ones(2, dtype=torch.long))
    distance = [(film[0, 4:] - wanted).square().mean() for wanted in (sure, other)]
    assert distance[0] < 0.5 * distance[1], "the faint frame takes the name of the clear one"


def test_it_can_begin_as_the_name_of_what_is_seen():
    torch.manual_seed(0)
    config = VisionInterfaceConfig(queries=4, width=64, ffn=64, heads=2, layers=2, draft=True)
    names = torch.tensor([[2, 3], [4, 0], [5, 6]])
    interface = VisionInterface(config, encoder_width=24, llm_width=64, names=names, characters=7).eval()
    table = 0.05 * torch.randn(7, 64)
    begin_with(interface.enter, interface.adapter, table)
    pictures = torch.randn(3, 1, 5, 24)
    with torch.no_grad():
        interface.naming.characters.weight.zero_()
        for name, picture in zip(names.tolist(), pictures, strict=True):
            interface.naming.characters.weight[name[0]] = 10 * picture.mean((0, 1))
    passed, _ = interface(pictures, torch.ones(3, dtype=torch.long))
    wanted = table[torch.nn.functional.pad(names, (0, 2))]
    assert (passed - wanted).square().mean() < 0.3 * table.square().mean()
    begin_with(interface.enter, interface.adapter, torch.randn(7, 20))  # an LLM of another width: nothing to begin with
    assert torch.equal(interface(pictures, torch.ones(3, dtype=torch.long))[0], passed)
