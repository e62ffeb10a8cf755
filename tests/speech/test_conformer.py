"""The speech encoder: rates, masks, and independence of the batch."""

import pytest
import torch

from xllm.config import SpeechEncoderConfig
from xllm.speech.conformer import SpeechEncoder

SMALL = SpeechEncoderConfig(channels=4, width=16, ffn=32, heads=2, kernel=5, blocks=3, pool_after=(1, 2))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SpeechEncoder(SMALL).eval()


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 16, 63])
def test_one_encoder_frame_per_eight_fbank_frames_rounded_up(encoder, frames):
    hidden, lengths = encoder(torch.randn(1, frames, 80), torch.tensor([frames]))
    assert encoder.rate == 8
    assert lengths.tolist() == [-(-frames // 8)] == [hidden.shape[1]]


def test_batch_equals_single(encoder):
    lengths = torch.tensor([57, 12, 1, 40])
    features = torch.randn(4, 57, 80)
    features[1, 12:] = 1e3  # what stands in the padding must not matter
    together, counts = encoder(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, count = encoder(features[row : row + 1, :length], lengths[row : row + 1])
        assert counts[row] == count[0]
        torch.testing.assert_close(together[row, : count[0]], alone[0], atol=1e-5, rtol=1e-4)
        assert not together[row, count[0] :].any()


def test_paper_sizes_are_the_default():
    config = SpeechEncoderConfig()
    assert (config.channels, config.width, config.ffn, config.heads, config.kernel) == (256, 512, 2048, 8, 31)
    assert (config.blocks, config.pool_after) == (18, (6, 12))
    with torch.device("meta"):
        assert SpeechEncoder(config).rate == 8


def test_wrong_number_of_bins_raises(encoder):
    with pytest.raises(ValueError, match="40 bins.*80"):
        encoder(torch.zeros(1, 10, 40), torch.tensor([10]))
