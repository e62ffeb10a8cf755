"""Channels to one: the mean, exactly; one channel where the mean would be silence."""

import numpy as np
import pytest
from media_files import tone

from xllm.downmix import Downmix
from xllm.errors import MediaError


def mixed(wave, size=10**9):
    mix = Downmix("a")
    out = [part for start in range(0, len(wave), size) for part in mix(wave[start : start + size])]
    return np.concatenate([*out, *mix.rest()])


def noise(seconds, channels=2):
    return 0.1 * np.random.default_rng(0).standard_normal((int(16000 * seconds), channels)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 6, 31])
def test_what_does_not_cancel_is_the_mean(channels):
    for wave in (noise(1.7, channels), np.tile(tone(1.7)[:, None], channels), np.zeros((5000, channels), np.float32)):
        assert np.array_equal(mixed(wave), wave @ np.full(channels, 1 / channels, np.float32))
    one = np.zeros((20000, channels), np.float32)
    one[:, -1] = tone(1.25)
    np.testing.assert_allclose(mixed(one), tone(1.25) / channels, atol=1e-6)


def test_opposite_channels_are_not_silence():
    sound = tone(1.5)
    np.testing.assert_allclose(mixed(np.stack([sound, -0.9 * sound], 1))[160:], sound[160:])
    surround = np.zeros((24000, 6), np.float32)
    surround[:, 4], surround[:, 5] = sound, -sound
    np.testing.assert_allclose(np.abs(mixed(surround)[160:]), np.abs(sound[160:]))


def test_it_changes_only_where_it_must_and_without_a_click():
    """A second of silence keeps what was; sound that adds up brings the mean back."""
    sound = tone(4.0)
    wave = np.stack([sound, sound], 1)
    wave[16000:32000, 1] *= -1
    wave[32000:40000] = 0
    found = mixed(wave)
    assert np.abs(found - wave[:, 0]).max() < 0.51 and np.array_equal(found[:16000], sound[:16000])
    assert np.abs(found[16200:32000] - sound[16200:32000]).max() < 1e-6
    assert np.abs(np.diff(found)).max() < 0.15, "a tone of 440 Hz changes by 0.09 from one sample to the next"


@pytest.mark.parametrize("size", [1, 777, 8000, 16001])
def test_blocks_do_not_matter(size):
    wave = noise(1.3)
    wave[8000:16000, 1] = -wave[8000:16000, 0]
    wave = wave[: 3000 if size == 1 else None]
    np.testing.assert_allclose(mixed(wave, size), mixed(wave), atol=1e-7)


def test_another_number_of_channels_may_follow():
    mix = Downmix("a")
    parts = [*mix(noise(0.1)), *mix(noise(0.1, 1)), *mix(noise(0.1, 6)), *mix.rest()]
    assert sum(map(len, parts)) == 4800


def test_samples_must_be_numbers():
    for bad in ([np.nan, 0], [np.inf, -np.inf]):
        with pytest.raises(MediaError, match="a: holds samples that are not numbers"):
            Downmix("a")(np.float32([bad]))
