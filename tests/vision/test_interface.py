"""Q-Former and adapter: a fixed number of embeddings a picture, frames one after another."""

import pytest
import torch

from xllm.config import VisionInterfaceConfig
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


def test_it_begins_where_the_llms_embeddings_lie(interface):
    torch.manual_seed(0)
    table = 3.0 + 0.1 * torch.randn(500, 20)
    interface.begin_near(table)
    out, _ = interface(torch.randn(8, 4, 7, 24), torch.full((8,), 4))
    assert (out.mean((0, 1)) - table.mean(0)).abs().max() < 0.2
    assert 0.05 < (out - table.mean(0)).square().mean().sqrt() < 0.2
