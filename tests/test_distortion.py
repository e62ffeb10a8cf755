"""Distortions: drawn from a generator alone, each does to the sound what it says."""

import math

import pytest
import torch

from xllm import distortion
from xllm.distortion import add, change_speed, distort, encode, limit_band, noise, reverberate
from xllm.features import seeded

RATE = 16000


def tone(hertz: float, seconds: float = 1.0) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(int(RATE * seconds)) / RATE)


def loudest(wave: torch.Tensor) -> float:
    """Frequency, in hertz."""
    return float(torch.fft.rfft(wave).abs().argmax()) * RATE / len(wave)


def test_a_version_can_be_had_again_and_versions_differ():
    wave = tone(300) * tone(3)
    versions = [distort(wave, seeded(number)) for number in range(20)]
    for number, version in enumerate(versions):
        assert torch.equal(version, distort(wave, seeded(number)))
        assert version.isfinite().all() and version.abs().max() <= 1.5
        assert abs(math.log(len(version) / len(wave))) < distortion.SPEED + 0.01
    assert len({tuple(version[:100].tolist()) for version in versions}) == 20


def test_silence_and_next_to_nothing_stay_harmless():
    assert len(distort(torch.zeros(0), seeded(1))) == 0
    for number in range(20):
        assert distort(torch.zeros(1000), seeded(number)).isfinite().all()
        assert distort(torch.full((1,), 0.1), seeded(number)).isfinite().all()


def test_speed_moves_pitch_and_length_together():
    changed = [change_speed(tone(400), seeded(number)) for number in range(6)]
    for wave in changed:
        assert loudest(wave) == pytest.approx(400 * RATE / len(wave), rel=0.02)
    assert min(map(len, changed)) < 0.95 * RATE and max(map(len, changed)) > 1.05 * RATE


@pytest.mark.parametrize("snr", [0.0, 10.0, 25.0])
def test_noise_is_as_loud_as_asked(snr):
    wave = tone(300)
    for number in range(8):
        beside = add(wave, noise(len(wave), seeded(number)), snr) - wave
        assert 10 * math.log10(wave.square().mean() / beside.square().mean()) == pytest.approx(snr, abs=0.01)


def test_a_room_answers_later_and_not_before():
    click = torch.zeros(RATE)
    click[1000] = 1.0
    for number in range(5):
        heard = reverberate(click, seeded(number))
        assert heard[:1000].abs().max() < 1e-6 and heard[1000] == pytest.approx(1.0, abs=1e-4)
        assert heard[1032:].abs().max() > 1e-3
        early, late = heard[1032:2000].square().sum(), heard[6000:].square().sum()
        assert late < early


def test_a_band_ends_below_and_above():
    for number in range(5):
        power = [limit_band(tone(hertz), seeded(number)).square().mean() for hertz in (10, 1000, 7900)]
        assert power[0] < 0.1 * power[1] > 10 * power[2]


def test_codecs_keep_the_sound_and_its_place():
    wave = (tone(500, 2.0) * (1 + tone(3, 2.0))) / 2
    for number in range(12):
        heard = encode(wave, seeded(number))
        assert len(heard) == len(wave)
        assert torch.corrcoef(torch.stack([heard, wave]))[0, 1] > 0.9
