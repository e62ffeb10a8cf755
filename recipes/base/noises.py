#!/usr/bin/env python3
"""Sounds in which nobody speaks, so that the recogniser writes nothing: noise, hum, music, clicks, silence.

    python recipes/base/noises.py OUT

writes OUT/noises/*.flac and OUT/noises-{train,dev,test}.jsonl, whose responses are empty. The test has kinds that
training never had: bells, sweeps, rain and drums.
"""

import argparse
import math
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from xllm.distortion import noise, reverberate
from xllm.features import seeded
from xllm.files import write_jsonl_atomic
from xllm.media import SAMPLE_RATE

COUNTS = {"train": 600, "dev": 60, "test": 300}
SCALE = (0, 2, 4, 5, 7, 9, 11, 12)  # semitones of a major scale
PARTIALS = (1.0, 2.76, 5.40, 8.93)  # of a bar or bell (Fletcher and Rossing, The Physics of Musical Instruments)


def _seconds(size: int) -> Tensor:
    return torch.arange(size) / SAMPLE_RATE


def _choice(generator: torch.Generator, *values: float) -> float:
    return values[int(torch.randint(len(values), (), generator=generator))]


def _notes(size: int, generator: torch.Generator, partials: tuple[float, ...], decay: float) -> Tensor:
    """A tune of notes that fade in `decay` seconds, a quarter to half a second apart."""
    out, at = torch.zeros(size), 0
    root, pace = 110.0 * 2 ** float(2 * torch.rand((), generator=generator)), _choice(generator, 0.25, 0.35, 0.5)
    while at < size:
        time = _seconds(size - at)
        for step in {int(_choice(generator, *SCALE)) for _ in range(int(_choice(generator, 1, 1, 3)))}:
            pitch = root * 2 ** (step / 12)
            tone = sum(torch.sin(2 * math.pi * pitch * n * time) / (i + 1) for i, n in enumerate(partials))
            out[at:] += tone * torch.exp(-time / decay) * (time / 0.01).clamp(max=1.0)
        at += int(pace * SAMPLE_RATE)
    return out


def _clicks(size: int, generator: torch.Generator, a_second: float, length: float) -> Tensor:
    """Short bursts of noise, so many a second."""
    out = torch.zeros(size)
    for _ in range(max(1, int(a_second * size / SAMPLE_RATE))):
        at = int(torch.randint(size, (), generator=generator))
        time = _seconds(min(size - at, int(8 * length * SAMPLE_RATE)))
        out[at : at + len(time)] += torch.randn(len(time), generator=generator) * torch.exp(-time / length)
    return out


def sweep(size: int, generator: torch.Generator) -> Tensor:
    """A tone that rises and falls, as a siren."""
    rate, width = _choice(generator, 0.3, 1.0, 3.0), _choice(generator, 200.0, 600.0)
    pitch = 800.0 + width * torch.sin(2 * math.pi * rate * _seconds(size))
    return torch.sin(2 * math.pi * pitch.cumsum(0) / SAMPLE_RATE)


KINDS = {
    "noise": noise,
    "tune": lambda size, generator: _notes(size, generator, (1.0, 2.0, 3.0, 4.0), _choice(generator, 0.2, 0.6, 2.0)),
    "taps": lambda size, generator: _clicks(size, generator, _choice(generator, 1.0, 4.0), 0.01),
    "silence": lambda size, generator: torch.zeros(size),
}
HELD_OUT = {
    "bells": lambda size, generator: _notes(size, generator, PARTIALS, 1.0),
    "sweep": sweep,
    "rain": lambda size, generator: _clicks(size, generator, 200.0, 0.003),
    "drums": lambda size, generator: _clicks(size, generator, 3.0, 0.06),
}


def make(kinds: dict, generator: torch.Generator) -> Tensor:
    """One sound of 0.5 to 6 seconds, in some room, over a faint noise, at some level."""
    names = list(kinds)
    kind = names[int(torch.randint(len(names), (), generator=generator))]
    size = int(SAMPLE_RATE * (0.5 + 5.5 * float(torch.rand((), generator=generator))))
    wave = kinds[kind](size, generator)
    wave = wave / wave.abs().max().clamp(min=1e-6)
    wave = reverberate(wave, generator) if float(torch.rand((), generator=generator)) < 0.5 else wave
    wave = wave + 10 ** _choice(generator, -4, -3, -2) * torch.randn(size, generator=generator)
    return wave / wave.abs().max() * _choice(generator, 0.03, 0.1, 0.3, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    (out / "noises").mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate(COUNTS.items()):
        rows = []
        for i in range(count):
            wave = make(HELD_OUT if split == "test" else KINDS, seeded(number, i))
            name, seconds = f"{split}-{i:03d}", len(wave) / SAMPLE_RATE
            soundfile.write(out / f"noises/{name}.flac", wave.numpy(), SAMPLE_RATE)
            rows.append({"id": f"noise-{name}", "speech": f"noises/{name}.flac", "duration": seconds, "response": ""})
        write_jsonl_atomic(out / f"noises-{split}.jsonl", rows)
        print(f"noises-{split}: {count}")


if __name__ == "__main__":
    main()
