"""A voice for the demonstration: Mandarin syllables from their formants, by source and filter (Fant 1960; Klatt 1980).

Pulses at the pitch of the tone, or noise for what hisses, through resonances that move from sound to sound. It is no
good voice, but one that can be followed, that needs no model, and of which no two speakers, nor two utterances of one,
are alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xllm.media import SAMPLE_RATE

HOP, WINDOW = SAMPLE_RATE // 200, SAMPLE_RATE // 200 * 6  # samples: 5 ms, 30 ms
WIDTHS = (80.0, 110.0, 160.0, 250.0)  # Hz, of the resonances
HIGHEST = 3600.0  # Hz, the fourth resonance
TILT = 500.0  # Hz, above which the voice falls by 6 dB an octave

# Pitch at the beginning, the middle and the end of each tone, in octaves from the speaker's middle.
TONES = {
    "1": (0.3, 0.3, 0.3),
    "2": (-0.2, -0.1, 0.35),
    "3": (-0.25, -0.5, -0.1),
    "4": (0.45, 0.1, -0.5),
    "5": (0, -0.1, -0.2),
}


class Sound(NamedTuple):
    """A target: resonances in Hz, seconds, loudness of voice and of hiss, and the hiss's centre in Hz."""

    f1: float
    f2: float
    f3: float
    seconds: float
    voice: float = 1.0
    hiss: float = 0.0
    centre: float = 0.0


def _vowel(f1: float, f2: float, f3: float, seconds: float = 0.09) -> Sound:
    return Sound(f1, f2, f3, seconds)


_NASAL_N, _NASAL_NG = Sound(300, 1650, 2600, 0.06, 0.35), Sound(320, 950, 2500, 0.07, 0.35)
_A, _I, _U, _E = _vowel(820, 1350, 2600), _vowel(300, 2300, 3000), _vowel(340, 720, 2500), _vowel(500, 1200, 2500)
_GLIDE_I, _GLIDE_U = _vowel(300, 2200, 2900, 0.04), _vowel(350, 750, 2500, 0.04)
FINALS = {
    "a": (_A, _A),
    "e": (_E, _E),
    "i": (_I, _I),
    "u": (_U, _U),
    "ii": (_vowel(380, 1450, 2600), _vowel(380, 1450, 2600)),  # of si, shi
    "er": (_vowel(600, 1300, 2300), _vowel(480, 1400, 1750)),
    "an": (_vowel(780, 1500, 2600), _NASAL_N),
    "en": (_vowel(560, 1500, 2500), _NASAL_N),
    "ian": (_GLIDE_I, _vowel(560, 1900, 2600), _NASAL_N),
    "ang": (_vowel(780, 1200, 2600), _NASAL_NG),
    "uang": (_GLIDE_U, _vowel(760, 1150, 2600), _NASAL_NG),
    "ing": (_vowel(320, 2200, 2900), _NASAL_NG),
    "ong": (_vowel(430, 800, 2500), _NASAL_NG),
    "iu": (_GLIDE_I, _vowel(480, 950, 2500, 0.06), _U),
}


def _hiss(centre: float, seconds: float, loud: float = 1.0) -> Sound:
    return Sound(400, 1700, 2700, seconds, 0.0, loud, centre)


_CLOSED = Sound(300, 1500, 2600, 0.03, 0.0)
INITIALS = {
    "": (),
    "b": (_CLOSED, _hiss(800, 0.01, 0.5)),
    "d": (_CLOSED, _hiss(3500, 0.012, 0.5)),
    "l": (Sound(360, 1250, 2700, 0.05, 0.5),),
    "m": (Sound(280, 950, 2300, 0.06, 0.35),),
    "n": (Sound(300, 1650, 2600, 0.06, 0.35),),
    "s": (_hiss(6000, 0.1),),
    "sh": (_hiss(3000, 0.1),),
    "x": (_hiss(4200, 0.1),),
    "j": (_CLOSED, _hiss(4200, 0.04)),
    "q": (_CLOSED, _hiss(4200, 0.09)),
    "zh": (_CLOSED, _hiss(3000, 0.04)),
}


class Speaker(NamedTuple):
    """Pitch in Hz, size of the vocal tract against the table's (larger: higher resonances), and time against it."""

    pitch: float
    tract: float
    slow: float


def draw_speaker(draw: np.random.Generator) -> Speaker:
    """Men, women and everyone between, of any haste."""
    pitch = draw.uniform(95, 240)
    return Speaker(pitch, 0.88 + 0.26 * (pitch - 95) / 145 + draw.uniform(-0.06, 0.06), draw.uniform(0.85, 1.35))


def speak(syllables: Sequence[tuple[str, str, str]], speaker: Speaker, draw: np.random.Generator) -> np.ndarray:
    """(initial, final, tone) of each syllable -> samples at 16 kHz, float64, of no particular level."""
    tracks, pitches = [], []
    for initial, final, tone in syllables:
        sounds = [*INITIALS[initial], *FINALS[final]]
        stretch = speaker.slow * draw.uniform(0.85, 1.15)
        sizes = [max(1, round(s.seconds * stretch * SAMPLE_RATE / HOP * draw.uniform(0.85, 1.15))) for s in sounds]
        tracks.append(np.repeat(np.array(sounds), sizes, axis=0))
        contour = np.interp(np.linspace(0, 2, sum(sizes)), [0, 1, 2], TONES[tone])
        pitches.append(contour + draw.normal(0, 0.03))
        if draw.random() < 0.5:  # a breath between syllables
            gap = int(draw.integers(2, 16))
            tracks.append(np.tile(np.array(_CLOSED), (gap, 1)))
            pitches.append(np.zeros(gap))
    track = _smooth(np.concatenate(tracks))
    pitch = speaker.pitch * 2 ** (_smooth(np.concatenate(pitches)[:, None])[:, 0] + draw.normal(0, 0.005, len(track)))
    return _through(track, pitch, speaker, draw)


def _smooth(track: np.ndarray, frames: int = 5) -> np.ndarray:
    """Moving means over 25 ms, for a mouth does not jump."""
    padded = np.pad(track, ((frames // 2, frames // 2), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, frames, axis=0).mean(-1)


def _through(track: np.ndarray, pitch: np.ndarray, speaker: Speaker, draw: np.random.Generator) -> np.ndarray:
    """Pulses and noise, both shaped frame by frame."""
    samples = len(track) * HOP + WINDOW
    phase = np.cumsum(np.interp(np.arange(samples), np.arange(len(pitch)) * HOP, pitch) / SAMPLE_RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0) * np.sqrt(SAMPLE_RATE / speaker.pitch)
    breath = draw.standard_normal(samples)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    shape = 1 / np.maximum(1, frequencies / TILT)
    for number, width in enumerate(WIDTHS):
        centre = (track[:, number : number + 1] if number < 3 else HIGHEST) * speaker.tract
        shape = shape * centre**2 / np.sqrt((centre**2 - frequencies**2) ** 2 + (width * frequencies) ** 2)
    voice, hiss, centre = track[:, 4:5], track[:, 5:6], np.maximum(track[:, 6:7] * speaker.tract, 1.0)
    band = np.exp(-(((frequencies - centre) / (0.25 * centre + 300)) ** 2))
    window = np.hanning(WINDOW)
    starts = np.arange(len(track))[:, None] * HOP + np.arange(WINDOW)
    spectrum = np.fft.rfft(pulses[starts] * window) * shape * voice
    spectrum += np.fft.rfft(breath[starts] * window) * (0.03 * shape * voice + 1.5 * band * hiss)
    frames = (np.fft.irfft(spectrum) * window).reshape(len(track), -1, HOP)  # each of six hops
    wave = np.zeros((len(track) + frames.shape[1], HOP))
    for late in range(frames.shape[1]):
        wave[late : late + len(track)] += frames[:, late]
    return wave.ravel()
