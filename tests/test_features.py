"""Fbank as Kaldi has it, normalisation, and augmentation that depends on its seed alone."""

import pytest
import torch

from xllm.features import fbank, normalize, seeded, spec_augment, speech_features


def test_frames_are_ten_milliseconds_and_short_audio_is_one():
    assert fbank(torch.randn(16000)).shape == (98, 80)
    for samples in (0, 1, 160, 400):
        assert fbank(torch.zeros(samples)).shape == (1, 80)
    assert fbank(torch.randn(16000), mels=40).shape == (98, 40)


def test_scale_is_sixteen_bit():
    """A full-scale tone's energy: Kaldi reads samples as integers, so its log-mel lies near 2 ln(32768)."""
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    assert 25 < fbank(tone).max() < 35


def test_normalised_per_utterance_and_independent_of_level():
    wave = torch.randn(16000) * 0.1
    features = normalize(fbank(wave))
    torch.testing.assert_close(features.mean(0), torch.zeros(80), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(80), atol=1e-3, rtol=0)
    torch.testing.assert_close(features, normalize(fbank(wave * 0.25)), atol=1e-2, rtol=0)
    assert torch.isfinite(normalize(fbank(torch.zeros(16000)))).all()


@pytest.mark.parametrize("speed, frames", [(0.9, 109), (1.0, 98), (1.1, 89)])
def test_speed_changes_length(speed, frames):
    assert abs(len(speech_features(torch.randn(16000), speed=speed)) - frames) <= 1


def test_spec_augment_masks_within_limits_and_by_seed():
    features = torch.ones(300, 80)
    again = [spec_augment(features, seeded(1, 2, n)) for n in (3, 3, 4)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])
    assert features.eq(1).all(), "the original is untouched"
    for seed in range(40):
        masked = spec_augment(features, seeded(seed)) == 0
        assert masked.all(0).sum() <= 2 * 27 and masked.all(1).sum() <= 2 * 30
    assert spec_augment(torch.ones(1, 80), seeded(0)).shape == (1, 80)
