"""Fbank as Kaldi has it, normalisation, and augmentation that depends on its seed alone."""

import pytest
import torch
import torchaudio

from xllm.features import (
    augment,
    fbank,
    normalize,
    redraw,
    seeded,
    spec_augment,
    speech_features,
    trim,
    warp_frequency,
)


def test_frames_are_ten_milliseconds_and_short_audio_is_one():
    assert fbank(torch.randn(16000)).shape == (98, 80)
    for samples in (0, 1, 160, 400):
        assert fbank(torch.zeros(samples)).shape == (1, 80)
    assert fbank(torch.randn(16000), mels=40).shape == (98, 40)


def noise(samples: int) -> torch.Tensor:
    return torch.randn(samples, generator=seeded(0))


def sines(samples: int, *pitches: float) -> torch.Tensor:
    time = torch.arange(samples) / 16000
    return sum(0.3 * torch.sin(2 * torch.pi * pitch * time) for pitch in pitches)


@pytest.mark.parametrize("mels", [40, 80])
@pytest.mark.parametrize(
    "wave",
    [
        pytest.param(0.1 * noise(16000), id="noise"),
        pytest.param(noise(16000).clamp(-1, 1), id="loud noise"),
        pytest.param(3e-5 * noise(16000).round(), id="the last bit"),
        pytest.param(torch.zeros(16000), id="silence"),
        pytest.param(torch.full((16000,), 0.25), id="an offset alone"),
        pytest.param(torch.cat([torch.zeros(8000), 0.1 + sines(8000, 440.0)]), id="a tone with an offset"),
        pytest.param(sines(16000, 60.0, 1000.0, 7900.0), id="tones"),
        *(pytest.param(0.1 * noise(n), id=f"{n} samples") for n in (400, 559, 560, 561)),
        *(pytest.param(0.1 * noise(400 + 160 * n), id=f"{n + 1} frames") for n in (511, 512, 1024)),
        pytest.param(0.1 * noise(30 * 16000), id="30 seconds"),
    ],
)
def test_fbank_is_torchaudios(wave, mels):
    theirs = torchaudio.compliance.kaldi.fbank(wave[None] * 32768.0, num_mel_bins=mels, dither=0.0)
    torch.testing.assert_close(fbank(wave, mels), theirs, atol=1e-4, rtol=0)


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


def sound_in_silence(before: float, after: float) -> torch.Tensor:
    """A second of loud noise in faint noise, between silences in seconds."""
    draw = torch.Generator().manual_seed(0)
    sound = 0.3 * torch.randn(16000, generator=draw)
    wave = torch.cat([torch.zeros(int(16000 * before)), sound, torch.zeros(int(16000 * after))])
    return wave + 1e-3 * torch.randn(len(wave), generator=draw)


def tone(pitch: float) -> torch.Tensor:
    return 0.3 * torch.sin(2 * torch.pi * pitch * torch.arange(16000) / 16000) + 1e-3 * torch.randn(16000)


def test_trimmed_features_are_those_of_a_trimmed_wave():
    features = speech_features(sound_in_silence(0.6, 0.6))
    lengths = set()
    for seed in range(20):
        cut = trim(features, seeded(seed))
        assert 95 <= len(cut) <= len(features)
        lengths.add(len(cut))
        torch.testing.assert_close(cut.mean(0), torch.zeros(80), atol=1e-4, rtol=0)
    assert len(lengths) > 10
    raw = fbank(sound_in_silence(0.6, 0.6))
    torch.testing.assert_close(normalize(normalize(raw)[20:180]), normalize(raw[20:180]), atol=1e-3, rtol=1e-3)
    silence = speech_features(torch.zeros(16000))
    assert len(trim(silence, seeded(0))) == len(silence)


def test_warping_moves_energy_up_for_a_shorter_vocal_tract():
    features = fbank(tone(1000.0))
    torch.testing.assert_close(warp_frequency(features, 1.0), features, atol=1e-3, rtol=1e-4)
    for factor in (0.9, 1.1):
        wanted = fbank(tone(1000.0 * factor)).mean(0).argmax()
        assert abs(warp_frequency(features, factor).mean(0).argmax() - wanted) <= 1


def test_augmentation_depends_on_its_seed_alone():
    features = speech_features(sound_in_silence(0.2, 0.2))
    assert torch.equal(augment(features, seeded(1)), augment(features, seeded(1)))
    assert not torch.equal(augment(features, seeded(1)), augment(features, seeded(2)))


def test_a_picture_drawn_again_shows_the_same_on_paper():
    """A black square on white stays one dark square on paper of one colour, wherever it is."""
    picture = torch.ones(1, 3, 40, 40)
    picture[..., 12:28, 12:28] = 0.0
    papers, places = set(), set()
    for seed in range(30):
        drawn = redraw(picture, seeded(seed))
        assert drawn.shape == picture.shape and drawn.min() >= 0 and drawn.max() <= 1
        assert torch.equal(drawn, redraw(picture, seeded(seed)))
        paper = drawn[0, :, 0, 0]
        dark = (drawn[0] < 0.8 * paper[:, None, None]).all(0)
        assert paper.min() >= 0.64 and 20 < dark.sum() < 400
        papers.add(tuple(paper.tolist()))
        places.add(tuple(dark.nonzero().float().mean(0).round().tolist()))
    assert len(papers) > 10 and len(places) > 10
    blank = redraw(torch.ones(1, 3, 8, 8), seeded(1))
    assert (blank == blank[..., :1, :1]).all()
