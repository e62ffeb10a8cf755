"""Sound as rooms, telephones, crowds and codecs leave it: how a recogniser is taught to hear people anywhere.

`distort` draws some of the steps below, in the order in which sound meets them: the speaker (speed and pitch), the
room, noise, the microphone's band, a codec, and the level. All draws come from one generator, so a version of an
utterance can be had again.
"""

import io
import math

import torch
import torchaudio
from torch import Tensor

from xllm.media import SAMPLE_RATE

DISTORTION = 1  # another number where what follows changes: versions computed before are others
SPEED = 0.15  # speech is up to so much slower and lower, or faster and higher, as other vocal tracts have it
REVERBERATION = (0.1, 0.7)  # seconds until an echo has died away by 60 dB
SNR = (0.0, 30.0)  # dB
MAINS = 50.0  # hertz
SHARES = {"speed": 0.7, "room": 0.4, "noise": 0.7, "band": 0.3, "codec": 0.3}  # of utterances that meet each step
CODECS = (("mp3", "mp3", 16_000), ("mp3", "mp3", 24_000), ("ogg", "libopus", 8_000), ("ogg", "libopus", 16_000))


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _spectrum(wave: Tensor, gain: Tensor) -> Tensor:
    """The wave [S] with the gain [S // 2 + 1] at each frequency from 0 to half the rate."""
    return torch.fft.irfft(torch.fft.rfft(wave) * gain, n=len(wave))


def _frequencies(size: int) -> Tensor:
    return torch.linspace(0.0, SAMPLE_RATE / 2, size // 2 + 1)


def change_speed(wave: Tensor, generator: torch.Generator) -> Tensor:
    """Another speaker: faster and higher, or slower and lower."""
    rate = round(SAMPLE_RATE * math.exp(_uniform(-SPEED, SPEED, generator)) / 100) * 100  # a ratio of small numbers
    return torchaudio.functional.resample(wave, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else wave


def reverberate(wave: Tensor, generator: torch.Generator) -> Tensor:
    """In a room: the direct sound, then noise that dies away, as loud as it or up to 15 dB less."""
    time = torch.arange(int(SAMPLE_RATE * _uniform(*REVERBERATION, generator))) / SAMPLE_RATE
    response = torch.randn(len(time), generator=generator) * 10 ** (-3 * time / time[-1])
    response[: int(0.002 * SAMPLE_RATE)] = 0.0  # the first wall is 30 cm away or more
    response *= 10 ** (-_uniform(0.0, 15.0, generator) / 20) / response.norm()
    response[0] = 1.0
    return torchaudio.functional.fftconvolve(wave, response)[: len(wave)]


def noise(size: int, generator: torch.Generator) -> Tensor:
    """Noise [size] of a drawn colour, in waves of loudness or steady, sometimes with a mains hum or a chord in it."""
    frequencies = _frequencies(size)
    colour = (frequencies.clamp(min=20.0) / 1000.0) ** (_uniform(-2.0, 0.5, generator) / 2)
    out = _spectrum(torch.randn(size, generator=generator), colour)
    time = torch.arange(size) / SAMPLE_RATE
    kind, rate, phase = torch.rand(3, generator=generator).tolist()
    if kind < 0.4:  # traffic, wind, steps
        out = out * (1.0 + 0.9 * torch.sin(2 * math.pi * (10 ** (1.2 * rate - 0.4) * time + phase)))
    if kind > 0.7:
        pitch = MAINS if kind < 0.8 else 110.0 * 2 ** (3 * rate)
        steps = (1, 2, 3, 5) if kind < 0.8 else (1, 5 / 4, 3 / 2, 2)
        tones = sum(torch.sin(2 * math.pi * pitch * step * time) / step for step in steps)
        out = out / out.std(correction=0).clamp(min=1e-6) * 0.5 + tones
    return out


def add(wave: Tensor, other: Tensor, snr: float) -> Tensor:
    """The wave [S] with another [S] beside it, `snr` dB less loud on average."""
    power = wave.square().mean() / other.square().mean().clamp(min=1e-12)
    return wave + other * (power / 10 ** (snr / 10)).sqrt()


def limit_band(wave: Tensor, generator: torch.Generator) -> Tensor:
    """A small microphone or a telephone: what is below and above fades away."""
    low, high = _uniform(50.0, 350.0, generator), _uniform(2800.0, 7000.0, generator)
    frequencies = _frequencies(len(wave))
    gain = torch.sigmoid((frequencies - low) / 30.0) * torch.sigmoid((high - frequencies) / 150.0)
    return _spectrum(wave, gain)


def encode(wave: Tensor, generator: torch.Generator) -> Tensor:
    """Through a codec at a low rate, or the 8 bits of a telephone."""
    choice = int(torch.randint(len(CODECS) + 1, (), generator=generator))
    if choice == len(CODECS):
        return torchaudio.functional.mu_law_decoding(torchaudio.functional.mu_law_encoding(wave.clamp(-1, 1), 256), 256)
    import av

    container, codec, rate = CODECS[choice]
    memory = io.BytesIO()
    with av.open(memory, "w", container) as out:
        stream = out.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = rate
        frame = av.AudioFrame.from_ndarray(
            (wave.clamp(-1, 1) * 32767).short().numpy()[None], format="s16", layout="mono"
        )
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    memory.seek(0)
    from xllm.media import load_audio

    decoded = load_audio(memory)[: len(wave)]
    return torch.nn.functional.pad(decoded, (0, len(wave) - len(decoded)))


def distort(wave: Tensor, generator: torch.Generator) -> Tensor:
    """A wave [S] in -1..1 as it might have been recorded elsewhere: [S'], S' within SPEED of S."""
    if wave.numel() == 0:
        return wave
    drawn = {step: float(torch.rand((), generator=generator)) < share for step, share in SHARES.items()}
    if drawn["speed"]:
        wave = change_speed(wave, generator)
    if drawn["room"]:
        wave = reverberate(wave, generator)
    if drawn["noise"]:
        wave = add(wave, noise(len(wave), generator), _uniform(*SNR, generator))
    if drawn["band"]:
        wave = limit_band(wave, generator)
    wave = wave * 10 ** _uniform(-1.5, 0.0, generator) / wave.abs().max().clamp(min=1e-6)
    return encode(wave, generator) if drawn["codec"] else wave
