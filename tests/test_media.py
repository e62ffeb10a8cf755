"""Media: what users have becomes 16 kHz mono at the right level; what is broken says so in one line."""

import io

import numpy as np
import pytest
import torch
from media_files import CODECS, tone, write_audio, write_silent_video

from xllm.errors import MediaError
from xllm.media import SAMPLE_RATE, load_audio, probe_audio, stream_audio


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_every_format_decodes_to_the_same_sound(tmp_path, suffix):
    path = write_audio(tmp_path / f"a{suffix}", tone(1.5, 48000), 48000, "stereo")
    wave = load_audio(path)
    assert wave.dtype == torch.float32 and wave.dim() == 1
    assert len(wave) == pytest.approx(1.5 * SAMPLE_RATE, rel=0.06)
    middle = wave[8000:16000]
    assert middle.abs().max() == pytest.approx(0.5, abs=0.06), "equal channels keep their level"
    spectrum = torch.fft.rfft(middle).abs()
    assert float(spectrum.argmax()) * SAMPLE_RATE / len(middle) == pytest.approx(440, abs=4)
    assert probe_audio(path) == pytest.approx(1.5, rel=0.06)


@pytest.mark.parametrize("rate, layout", [(8000, "stereo"), (44100, "mono"), (22050, "5.1"), (16000, "mono")])
def test_rates_and_layouts(tmp_path, rate, layout):
    wave = load_audio(write_audio(tmp_path / "a.wav", tone(1.0, rate), rate, layout))
    assert len(wave) == pytest.approx(SAMPLE_RATE, abs=40)
    assert wave[4000:12000].abs().max() == pytest.approx(0.5, abs=0.02)


def test_opposite_channels_cancel(tmp_path):
    both = np.stack([tone(0.5), -tone(0.5)])
    assert load_audio(write_audio(tmp_path / "a.wav", both, layout="stereo")).abs().max() < 1e-3


def test_samples_of_a_wav_are_exact(tmp_path):
    wave = np.random.default_rng(0).integers(-20000, 20000, 16000).astype(np.float32) / 32768
    np.testing.assert_allclose(load_audio(write_audio(tmp_path / "a.wav", wave)), wave, atol=2e-5)


def test_chunks_join_to_the_whole(tmp_path):
    path = write_audio(tmp_path / "a.flac", tone(2.3))
    chunks = list(stream_audio(path, 0.5))
    assert [len(c) for c in chunks[:-1]] == [8000] * 4
    assert torch.equal(torch.cat(chunks), load_audio(path))


def test_open_files_are_read_too(tmp_path):
    path = write_audio(tmp_path / "a.mp3", tone(1.0))
    assert torch.equal(load_audio(io.BytesIO(path.read_bytes())), load_audio(path))


def test_ten_milliseconds_are_audio(tmp_path):
    assert len(load_audio(write_audio(tmp_path / "a.wav", tone(0.01)))) == 160


def test_truncated_mp3_gives_what_is_there(tmp_path):
    whole = write_audio(tmp_path / "a.mp3", tone(4.0))
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 1.0 < len(load_audio(cut)) / SAMPLE_RATE < 3.0


def bad_files(folder):
    (folder / "text.wav").write_text("这不是声音" * 100, encoding="utf-8")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "folder.wav").mkdir()
    (folder / "list.wav").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.wav\n")
    write_audio(folder / "zero.wav", tone(0))
    write_audio(folder / "nan.wav", np.full(1600, np.nan, np.float32), codec="pcm_f32le")
    write_silent_video(folder / "mute.mp4")
    mp3 = write_audio(folder / "whole.mp3", tone(1.0)).read_bytes()
    (folder / "stub.mp3").write_bytes(mp3[:20])
    return {
        "text.wav": "not a media file",
        "empty.wav": "empty",
        "folder.wav": "folder",
        "none.wav": "no such file",
        "list.wav": "not a media file",
        "zero.wav": "no audio samples",
        "nan.wav": "not numbers",
        "mute.mp4": "no audio track",
        "stub.mp3": "damaged|not a media file|no audio",
    }


@pytest.mark.parametrize(
    "name",
    ["text.wav", "empty.wav", "folder.wav", "none.wav", "list.wav", "zero.wav", "nan.wav", "mute.mp4", "stub.mp3"],
)
def test_bad_files_say_so_in_one_line(tmp_path, name):
    expected = bad_files(tmp_path)[name]
    with pytest.raises(MediaError, match=expected) as caught:
        load_audio(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)
