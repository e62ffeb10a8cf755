"""Voice activity: where speech is, what is cut, and that it does not matter how the sound was chunked."""

from pathlib import Path

import pytest
import torch

from xllm.media import SAMPLE_RATE, load_audio
from xllm.segment import MAX_SPEECH, PADDING, cut, find_speech

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.opus"))


def trimmed(path):
    """An example without the silence at its ends (below -40 dB of its peak)."""
    wave = load_audio(path)
    loud = (wave.abs() > 0.01 * wave.abs().max()).nonzero().flatten()
    return wave[int(loud[0]) : int(loud[-1]) + 1]


@pytest.fixture(scope="module")
def joined():
    """Two utterances, 1.2 s of silence between them, half a second around; and their true edges in seconds."""
    a, b = trimmed(EXAMPLES[0]), trimmed(EXAMPLES[1])
    wave = torch.cat([torch.zeros(8000), a, torch.zeros(19200), b, torch.zeros(8000)])
    starts = [8000, 8000 + len(a) + 19200]
    return wave, [(s / SAMPLE_RATE, (s + len(u)) / SAMPLE_RATE) for s, u in zip(starts, (a, b), strict=True)]


def test_edges_of_two_utterances_are_found(joined):
    wave, edges = joined
    speech, seconds = find_speech([wave])
    assert seconds == len(wave) / SAMPLE_RATE and len(speech) == 2
    for found, (start, end) in zip(speech, edges, strict=True):
        assert found.start == pytest.approx(start, abs=0.1) and found.end == pytest.approx(end, abs=0.15)


@pytest.mark.parametrize("size", [1000, 16000, 10**9])
def test_chunks_do_not_matter(joined, size):
    wave, _ = joined
    whole = find_speech([wave])
    assert find_speech(wave.split(min(size, len(wave)))) == whole
    for piece in cut(wave.split(min(size, len(wave))), whole[0]):
        start = int(piece.offset * SAMPLE_RATE)
        assert torch.equal(piece.wave, wave[start : start + len(piece.wave)])
        assert piece.offset <= piece.speech.start and piece.offset >= piece.speech.start - PADDING - 1e-3
        assert piece.offset + len(piece.wave) / SAMPLE_RATE >= piece.speech.end


@pytest.mark.parametrize(
    "wave", [torch.zeros(48000), torch.zeros(10), 1e-4 * torch.randn(32000)], ids=["silence", "nothing", "hiss"]
)
def test_no_speech_is_no_piece(wave):
    speech, _ = find_speech([wave])
    assert speech == [] and list(cut([wave], speech)) == []


def test_long_speech_is_cut_and_nothing_is_lost():
    wave = torch.cat([trimmed(path) for path in EXAMPLES] * 4)
    speech, _ = find_speech(wave.split(SAMPLE_RATE))
    assert max(s.end - s.start for s in speech) <= MAX_SPEECH + 0.1 < len(wave) / SAMPLE_RATE
    assert sum(s.end - s.start for s in speech) > 0.8 * len(wave) / SAMPLE_RATE


def test_detector_leaves_torch_threads_alone():
    before = torch.get_num_threads()
    find_speech([torch.zeros(512)])
    assert torch.get_num_threads() == before
