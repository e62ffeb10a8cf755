"""Features from disk are features from the file."""

import torch

from xllm.config import SpeechEncoderConfig
from xllm.training.cache import Cache
from xllm.training.fbanks import Fbanks

SIZES = SpeechEncoderConfig()


def test_cached_equals_computed_and_gaps_are_allowed(world):
    paths = [str(world / "0.wav"), None, str(world / "1.wav"), str(world / "gone.wav")]
    kept = Fbanks(paths, SIZES, (0.9, 1.0), Cache(world / "cache"))
    fresh = Fbanks(paths, SIZES, (0.9, 1.0))
    for item in (0, 2):
        for speed in (0.9, 1.0):
            torch.testing.assert_close(kept.load(item, speed), fresh.load(item, speed), atol=2e-3, rtol=1e-3)
    assert "gone.wav" in kept.failed(3) and kept.failed(1) is None and fresh.failed(3) is None
    assert kept.length(0) == len(fresh.load(0, 0.9)) and fresh.length(0) is None
