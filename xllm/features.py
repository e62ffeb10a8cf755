"""From waves to what the speech encoder sees: Kaldi fbank, utterance normalisation, and augmentation.

Augmentation draws from a generator that the caller seeds per sample, so that it does not depend on workers,
batches or resumption.
"""

import numpy as np
import torch
import torchaudio
from torch import Tensor

from xllm.media import SAMPLE_RATE

FRAME_SHIFT = 0.01  # seconds per fbank frame
SPEEDS = (0.9, 1.0, 1.1)  # speed perturbation (paper A.3)


def seeded(*numbers: int) -> torch.Generator:
    """A generator whose draws depend on these numbers alone."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def fbank(wave: Tensor, mels: int = 80) -> Tensor:
    """Kaldi log-mel filterbank, 25 ms windows every 10 ms: wave [S] in -1..1 -> features [F, mels], float32.

    Samples are scaled to the 16-bit range, as Kaldi reads them. Shorter audio than one window is padded with
    silence, so that F >= 1.
    """
    window = SAMPLE_RATE * 25 // 1000
    if wave.numel() < window:
        wave = torch.nn.functional.pad(wave, (0, window - wave.numel()))
    return torchaudio.compliance.kaldi.fbank(
        wave[None] * 32768.0, num_mel_bins=mels, sample_frequency=SAMPLE_RATE, dither=0.0
    )


def normalize(features: Tensor) -> Tensor:
    """Zero mean and unit variance per bin over the utterance: [F, mels] -> [F, mels]."""
    deviation = features.std(dim=0, correction=0).clamp(min=1e-3)
    return (features - features.mean(dim=0)) / deviation


def speech_features(wave: Tensor, mels: int = 80, speed: float = 1.0) -> Tensor:
    """What the encoder is fed: wave [S] -> normalised fbank [F, mels], after speed perturbation if asked."""
    if speed != 1.0:
        wave = torchaudio.functional.resample(wave, round(SAMPLE_RATE * speed), SAMPLE_RATE)
    return normalize(fbank(wave, mels))


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
