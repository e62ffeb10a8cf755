"""What the encoders see: Kaldi fbank with utterance normalisation or Whisper's, pictures of one size; augmentation.

Augmentation draws from a generator that the caller seeds per sample, so that it does not depend on workers,
batches or resumption.
"""

from functools import cache

import numpy as np
import torch
import torchaudio
from torch import Tensor

from xllm.config import SpeechEncoderConfig
from xllm.media import SAMPLE_RATE

FRAME_SHIFT = 0.01  # seconds per fbank frame
WINDOW, STEP = SAMPLE_RATE // 40, SAMPLE_RATE // 100  # samples: 25 ms every 10 ms
FFT = 512
CHUNK = 512  # frames: what is made of them on the way to features stays within a CPU's cache
SPEEDS = (0.9, 1.0, 1.1)  # speed perturbation (paper A.3)
LOUD = -0.3  # a frame whose normalised bins have this mean or more is sound, not the silence around it
CROP, STRETCH = 0.5, 4 / 3  # least area of a random crop, and how far its sides may differ (BLIP-2's crops)
# Of pictures redrawn: share turned by any angle, share of that angle for the others, least size, strongest paper.
TURNED, UPRIGHT, SMALLEST, PALEST = 0.2, 0.1, 0.25, 0.35
WARP = 0.12  # vocal tracts drawn are this much shorter or longer (Jaitly and Hinton, 2013)


def seeded(*numbers: int) -> torch.Generator:
    """A generator whose draws depend on these numbers alone."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


@cache
def _kaldi(mels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Kaldi's povey window [WINDOW] and its mel filters from 20 Hz up [FFT / 2 + 1, mels]."""
    banks, _ = torchaudio.compliance.kaldi.get_mel_banks(mels, FFT, SAMPLE_RATE, 20.0, 0.0, 100.0, -500.0, 1.0)
    window = torch.hann_window(WINDOW, periodic=False).pow(0.85)
    return window.to(device), torch.nn.functional.pad(banks, (0, 1)).T.contiguous().to(device)


def _log_mel(frames: Tensor, mels: int) -> Tensor:
    """[F, WINDOW] -> [F, mels]: no constant offset, pre-emphasis by 0.97, window, power spectrum, filters, log."""
    window, banks = _kaldi(mels, frames.device)
    frames = frames - frames.mean(1, keepdim=True)
    before = 0.97 * frames
    frames[:, 1:] -= before[:, :-1]
    frames[:, 0] -= before[:, 0]  # nothing is before it: Kaldi takes the sample itself
    spectrum = torch.fft.rfft(frames * window, n=FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    return (power @ banks).clamp(min=torch.finfo(torch.float32).eps).log()


def fbank(wave: Tensor, mels: int = 80) -> Tensor:
    """Kaldi log-mel filterbank, 25 ms windows every 10 ms: wave [S] in -1..1 -> features [F, mels], float32.

    Samples are scaled to the 16-bit range, as Kaldi reads them. Shorter audio than one window is padded with
    silence, so that F >= 1. The numbers are those of torchaudio.compliance.kaldi.fbank without dither.
    """
    if wave.numel() < WINDOW:
        wave = torch.nn.functional.pad(wave, (0, WINDOW - wave.numel()))
    frames = (wave * 32768.0).unfold(0, WINDOW, STEP)
    return torch.cat([_log_mel(chunk, mels) for chunk in frames.split(CHUNK)])


def normalize(features: Tensor) -> Tensor:
    """Zero mean and unit variance per bin over the utterance: [F, mels] -> [F, mels]."""
    deviation = features.std(dim=0, correction=0).clamp(min=1e-3)
    return (features - features.mean(dim=0)) / deviation


@cache
def _whisper_extractor(mels: int):
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=mels)


def whisper_features(wave: Tensor, mels: int = 80) -> Tensor:
    """Whisper's log-mel of a wave [S] in -1..1 before silence: [F, mels], every 10 ms, all frames that hear of it."""
    extractor = _whisper_extractor(mels)
    frames = (len(wave) + extractor.n_fft // 2 - 1) // extractor.hop_length + 1
    silence = torch.zeros(extractor.n_fft)  # what follows in a window of 30 s, as far as the last frame reaches
    found = extractor(torch.cat([wave, silence]).numpy(), sampling_rate=SAMPLE_RATE, padding=False, truncation=False)
    return torch.as_tensor(found.input_features[0]).T[:frames].contiguous()


def speech_features(wave: Tensor, encoder: SpeechEncoderConfig = SpeechEncoderConfig(), speed: float = 1.0) -> Tensor:
    """What the encoder is fed: wave [S] -> features [F, mels], after speed perturbation if asked.

    Normalised fbank for the conformer, Whisper's own log-mel for Whisper.
    """
    if speed != 1.0:
        wave = torchaudio.functional.resample(wave, round(SAMPLE_RATE * speed), SAMPLE_RATE)
    if encoder.form == "whisper":
        return whisper_features(wave, encoder.mels)
    return normalize(fbank(wave, encoder.mels))


def spec_augment(
    features: Tensor, generator: torch.Generator, frequency: int = 27, time: int = 50, masks: int = 2
) -> Tensor:
    """SpecAugment with F=27 x2, T=50 x2 (paper A.3): [F, mels] -> a masked copy; masked cells are the mean, 0.

    A time mask covers at most a tenth of the utterance, so that short utterances keep most of their tokens.
    """
    out = features.clone()
    frames, mels = out.shape
    for size, limit, axis in ((frequency, mels, 1), (min(time, frames // 10), frames, 0)):
        for _ in range(masks):
            width = int(torch.randint(0, size + 1, (1,), generator=generator))
            start = int(torch.randint(0, limit - width + 1, (1,), generator=generator))
            out.narrow(axis, start, width).zero_()
    return out


def trim(features: Tensor, generator: torch.Generator) -> Tensor:
    """Cut the silence around speech to a random part of it: [F, mels] -> [F' <= F, mels], normalised again.

    Utterance normalisation sees that silence, so speech must not be recognised by how much of it there is. As
    normalisation undoes any scale and shift, the result is what the cut wave would have given.
    """
    loud = (features.mean(-1) >= LOUD).nonzero().flatten()
    if len(loud) == 0:
        return features
    before, after = int(loud[0]), len(features) - 1 - int(loud[-1])
    start = int(torch.randint(0, before + 1, (), generator=generator))
    stop = len(features) - int(torch.randint(0, after + 1, (), generator=generator))
    return normalize(features[start:stop])


def warp_frequency(features: Tensor, factor: float) -> Tensor:
    """What a vocal tract `factor` times as short would have given: [F, mels] -> [F, mels].

    Energy at frequency f moves to `factor` * f; bins are interpolated between their mel centres.
    """
    mels = features.shape[1]
    low, high = (1127.0 * np.log1p(f / 700.0) for f in (20.0, SAMPLE_RATE / 2))  # Kaldi's scale and range
    step = (high - low) / (mels + 1)
    centres = low + step * torch.arange(1, mels + 1)
    source = 1127.0 * torch.log1p(torch.expm1(centres / 1127.0) / factor)
    place = ((source - low) / step - 1).clamp(0, mels - 1)
    below = place.long().clamp(max=mels - 2)
    part = place - below
    return features[:, below] * (1 - part) + features[:, below + 1] * part


def augment(features: Tensor, generator: torch.Generator, form: str = "conformer") -> Tensor:
    """Another telling of an utterance [F, mels]: less silence around it, another vocal tract, SpecAugment.

    Of features for Whisper, which has heard many voices and does not normalise: SpecAugment alone.
    """
    if form == "whisper":
        return spec_augment(features, generator)
    features = trim(features, generator)
    factor = 1.0 + WARP * (2.0 * float(torch.rand((), generator=generator)) - 1.0)
    return spec_augment(warp_frequency(features, factor), generator)


def picture_features(
    pictures: Tensor, size: int, generator: torch.Generator | None = None, flip: bool = True
) -> Tensor:
    """Pictures uint8 [T, 3, H, W] -> [T, 3, size, size] in 0..1; all T are treated alike, as the frames of one film.

    Without a generator the whole picture is scaled. With one, a random part of it: half to all of the area, slightly
    stretched, and mirrored half of the time if `flip` (left and right must stay for a film).
    """
    top, left, (height, width) = 0, 0, pictures.shape[-2:]
    mirrored = False
    if generator is not None:
        area, stretch, down, right, mirror = torch.rand(5, generator=generator).tolist()
        share, ratio = CROP + (1.0 - CROP) * area, STRETCH ** (2.0 * stretch - 1.0)
        high = max(1, min(height, round(height * (share / ratio) ** 0.5)))
        wide = max(1, min(width, round(width * (share * ratio) ** 0.5)))
        top, left, height, width = round(down * (height - high)), round(right * (width - wide)), high, wide
        mirrored = flip and mirror < 0.5
    part = pictures[..., top : top + height, left : left + width].float() / 255.0
    part = torch.nn.functional.interpolate(part, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return (part.flip(-1) if mirrored else part).clamp(0.0, 1.0)


def redraw(picture: Tensor, generator: torch.Generator) -> Tensor:
    """A picture on white [1, 3, H, W] in 0..1 as another hand might draw it, on coloured paper: same shape.

    It is turned, drawn smaller, its colours fade or glow and its edges are inked. An encoder that learns from a few
    thousand drawings must not depend on any of these.
    """
    draw = torch.rand(12, generator=generator).tolist()
    size = picture.shape[-1]
    angle = torch.pi * (2.0 * draw[0] - 1.0) * (1.0 if draw[1] < TURNED else UPRIGHT)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    turn = torch.nn.functional.affine_grid(
        torch.tensor([[[cos, sin, 0.0], [-sin, cos, 0.0]]]), list(picture.shape), align_corners=False
    )
    ink = torch.nn.functional.grid_sample(1.0 - picture, turn, align_corners=False)  # no ink around the picture
    if draw[2] < 0.5:
        side = round(size * (SMALLEST + (1.0 - SMALLEST) * draw[3]))
        small = torch.nn.functional.interpolate(ink, (side, side), mode="bilinear", antialias=True, align_corners=False)
        left, top = round(draw[4] * (size - side)), round(draw[5] * (size - side))
        ink = torch.nn.functional.pad(small, (left, size - side - left, top, size - side - top))
    grey = ink.mean(1, keepdim=True)
    ink = (grey + (0.2 + 1.3 * draw[6]) * (ink - grey)) * (0.6 + 0.6 * draw[7])
    if draw[8] < 0.5:
        lightest, darkest = (torch.nn.functional.max_pool2d(sign * grey, 3, 1, 1) for sign in (-1.0, 1.0))
        ink = ink + 3.0 * draw[7] * (darkest + lightest)
    drawn = (1.0 - ink).clamp(0.0, 1.0)
    paper = torch.tensor(draw[9:]).view(3, 1, 1) * (PALEST if draw[8] < 0.7 else 0.0)
    return drawn - drawn.amin(1, keepdim=True) * paper  # the paper shows through the white in every colour
