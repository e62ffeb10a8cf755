"""Reading and features: media files and fbank, ours against PyAV alone and torchaudio's fbank.

    python benchmarks/front_end.py

Ten minutes of the speech in examples/, repeated, are written as 16 kHz mono files first. Each form is timed in turn,
round after round, so that whatever else runs on the machine slows all alike; the figures are medians. Forms must
agree.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from xllm import media
from xllm.decoding import decode, timeline
from xllm.features import fbank
from xllm.media import SAMPLE_RATE, load_audio

EXAMPLES = Path(__file__).parent.parent / "examples"
SUBTYPES = {"WAV": "PCM_16", "FLAC": "PCM_16", "MP3": "MPEG_LAYER_III", "OGG": "VORBIS"}
SECONDS = (4, 30, 600)


def speech(seconds: int) -> Tensor:
    """The examples one after another, again and again: [S]."""
    whole = torch.cat([load_audio(path) for path in sorted(EXAMPLES.glob("*.opus"))])
    return whole.repeat(seconds * SAMPLE_RATE // len(whole) + 1)[: seconds * SAMPLE_RATE]


def write(path: Path, wave: Tensor, container: str) -> None:
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, SUBTYPES[container], format=container) as file:
        for second in wave.split(SAMPLE_RATE):  # libsndfile's Vorbis overflows the stack on all at once
            file.write(second.numpy())


def pyav(path: Path) -> Tensor:
    with media.open_media(path) as container:
        track, line = media.audio_track(container, path.name), timeline(container)
        return torch.from_numpy(np.concatenate(list(decode(container, track, path.name, line)))[:, 0])


def torchaudios(wave: Tensor) -> Tensor:
    return torchaudio.compliance.kaldi.fbank(wave[None] * 32768.0, num_mel_bins=80, dither=0.0)


def compare(name: str, ours: Callable, theirs: Callable, argument: Path | Tensor, rounds: int) -> None:
    """Print medians of interleaved rounds; the first is not timed, and says whether both agree."""
    torch.testing.assert_close(ours(argument), theirs(argument), atol=1e-4, rtol=0)
    times: dict[Callable, list[float]] = {ours: [], theirs: []}
    for _ in range(rounds):
        for form, seconds in times.items():
            start = time.perf_counter()
            form(argument)
            seconds.append(time.perf_counter() - start)
    mine, other = (1000 * statistics.median(seconds) for seconds in times.values())
    print(f"| {name} | {mine:.1f} | {other:.1f} | {other / mine:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    wave = speech(max(SECONDS))
    print("| | ms, ours | ms, PyAV or torchaudio | times faster |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for container in SUBTYPES:
            path = Path(folder) / container.lower()
            write(path, wave, container)
            compare(f"{container}, {max(SECONDS)} s", load_audio, pyav, path, options.rounds)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for seconds in SECONDS:
            name = f"fbank, {seconds} s, threads: {threads}"
            part = wave[: seconds * SAMPLE_RATE]
            compare(name, fbank, torchaudios, part, options.rounds * (1 if seconds > 60 else 6))


if __name__ == "__main__":
    main()
