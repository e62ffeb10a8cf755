"""Long audio into stretches of speech, by voice activity (silero-vad), in bounded memory.

Two passes over the decoded sound: the first keeps one probability per 32 ms, the second cuts. Silence is no segment,
which is why silence has no text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from xllm.media import SAMPLE_RATE

WINDOW = 512  # samples that silero-vad judges at once: 32 ms
THRESHOLD = 0.35  # below silero's 0.5: missing a word is worse than transcribing a breath
PAUSE = 0.5  # seconds of silence that end a segment
MIN_SPEECH = 0.1  # seconds
MAX_SPEECH = 12.0  # seconds; longer speech is cut at its longest pause
PADDING = 0.4  # seconds of context kept around speech


@dataclass(frozen=True)
class Speech:
    """A stretch of speech, in seconds: its edges as voice activity found them."""

    start: float
    end: float


@dataclass(frozen=True)
class Piece:
    """Sound to transcribe: `wave` [S] starts `offset` seconds into the recording and holds `speech` and padding."""

    offset: float
    wave: Tensor
    speech: Speech


@cache
def _detector():
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)  # importing silero_vad sets it to 1 for the whole process
    return load_silero_vad()


@torch.inference_mode()
def find_speech(chunks: Iterable[Tensor]) -> tuple[list[Speech], float]:
    """Stretches of speech in a recording given as chunks [S], and its length in seconds."""
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    detector = _detector()
    detector.reset_states()
    held = torch.zeros(0)
    probabilities: list[float] = []
    samples = 0
    for chunk in chunks:
        samples += len(chunk)
        held = torch.cat([held, chunk])
        whole = len(held) // WINDOW * WINDOW
        probabilities += [float(detector(window, SAMPLE_RATE)) for window in held[:whole].unflatten(0, (-1, WINDOW))]
        held = held[whole:]
    if len(held):
        probabilities.append(float(detector(torch.nn.functional.pad(held, (0, WINDOW - len(held))), SAMPLE_RATE)))
    # Silence after the end, so that speech near it ends where it ends and not with the file.
    probabilities += [0.0] * (int(PAUSE * SAMPLE_RATE / WINDOW) + 2)
    found = get_speech_timestamps_from_probs(
        probabilities,
        threshold=THRESHOLD,
        min_speech_duration_ms=int(1000 * MIN_SPEECH),
        speech_pad_ms=0,
        max_speech_duration_s=MAX_SPEECH,
        min_silence_duration_ms=int(1000 * PAUSE),
    )
    spans = [Speech(f["start"] / SAMPLE_RATE, min(f["end"], samples) / SAMPLE_RATE) for f in found]
    return spans, samples / SAMPLE_RATE


def cut(chunks: Iterable[Tensor], speech: list[Speech]) -> Iterator[Piece]:
    """Cut a recording, given as chunks [S], into padded pieces; padding never reaches into a neighbour's half."""
    if not speech:
        return
    chunks = iter(chunks)
    held, at = torch.zeros(0), 0  # samples held, and where they start
    edges = [0.0, *((a.end + b.start) / 2 for a, b in zip(speech, speech[1:], strict=False)), float("inf")]
    for span, before, after in zip(speech, edges[:-1], edges[1:], strict=True):
        start = int(max(before, span.start - PADDING) * SAMPLE_RATE)
        stop = int(min(after, span.end + PADDING) * SAMPLE_RATE)
        while at + len(held) < stop:
            chunk = next(chunks, None)
            if chunk is None:
                break
            held, at = torch.cat([held[max(0, start - at) :], chunk]), max(at, min(start, at + len(held)))
        wave = held[max(0, start - at) : stop - at]
        yield Piece(start / SAMPLE_RATE, wave.clone(), span)
