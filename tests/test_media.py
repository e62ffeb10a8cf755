"""Media: what users have becomes 16 kHz mono at the right level; what is broken says so in one line."""

import errno
import io
import logging
import os
import tracemalloc
from threading import Thread

import av
import numpy as np
import pytest
import soundfile
import torch
from av.stream import Disposition
from media_files import CODECS, shades, tone, write_audio, write_film, write_silent_video, write_tracks
from PIL import Image

from xllm import media
from xllm.errors import MediaError
from xllm.films import load_frames
from xllm.lossless import NotLossless
from xllm.media import MEDIA_SUFFIXES, SAMPLE_RATE, load_audio, probe_audio, stream_audio
from xllm.pictures import load_picture


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


def test_no_name_is_taken_for_a_protocol(tmp_path, monkeypatch):
    """FFmpeg sees `name:` before a file's name as a protocol, and `file:a.opus` as another file."""
    monkeypatch.chdir(tmp_path)
    write_audio(tmp_path / "a.opus", tone(1.0))
    video = write_film(tmp_path / "a.mp4", shades(4)).read_bytes()
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    long = write_audio(tmp_path / "long.opus", tone(2.0)).read_bytes()
    for name in ("file:a", "2024-05-01T12:30:00", "Re: call", "http:", "concat:a", "100%d", "caf\udce9"):
        (tmp_path / f"{name}.opus").write_bytes(long)
        (tmp_path / f"{name}.mp4").write_bytes(video)
        (tmp_path / f"{name}.png").write_bytes((tmp_path / "a.png").read_bytes())
        assert len(load_audio(f"{name}.opus")) == pytest.approx(2 * SAMPLE_RATE, rel=0.05)
        assert probe_audio(f"{name}.opus") == pytest.approx(2.0, rel=0.05)
        assert load_frames(f"{name}.mp4", 2).shape == (2, 3, 32, 48)
        assert load_picture(f"{name}.png").shape == (3, 2, 2)


@pytest.mark.parametrize(
    "name, message",
    [
        ("n" * 300 + ".wav", "cannot be read: File name too long"),
        ("a\0.wav", "no such file"),
        ("/dev/zero", "a device"),
    ],
)
def test_names_that_no_media_file_can_have(name, message):
    with pytest.raises(MediaError, match=message):
        load_audio(name)


def test_pipes_by_name(tmp_path):
    """Process substitution and named pipes: also formats whose index stands at the end."""
    write_audio(tmp_path / "a.m4a", tone(1.0))
    write_film(tmp_path / "a.mp4", shades(4))
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "fifo")
    loads = {"a.m4a": load_audio, "a.mp4": lambda path: load_frames(path, 2), "a.png": load_picture}
    for name, load in loads.items():
        writer = Thread(target=(tmp_path / "fifo").write_bytes, args=((tmp_path / name).read_bytes(),))
        writer.start()
        assert load(tmp_path / "fifo").equal(load(tmp_path / name))
        writer.join()


def test_a_disk_that_fails_is_said(tmp_path, monkeypatch):
    """An error of the file itself, in the middle, not one of its format."""

    class Failing(io.FileIO):
        def readinto(self, buffer):
            if self.tell() > 200_000:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().readinto(buffer)

    write_audio(tmp_path / "a.mp3", tone(30.0, 48000), 48000)
    with pytest.raises(MediaError, match=r"a\.mp3: cannot be read: Input/output error"):
        load_audio(io.BufferedReader(Failing(tmp_path / "a.mp3")))


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


def refuse(*_):
    raise NotLossless("refused")


def outcome(data: bytes, caplog) -> tuple[torch.Tensor, str | list[str]]:
    """The samples, and the error or the warnings."""
    caplog.clear()
    try:
        wave = load_audio(io.BytesIO(data))
    except MediaError as error:
        return torch.zeros(0), str(error)
    return wave, caplog.messages


def both(data: bytes, caplog, monkeypatch) -> list[tuple[torch.Tensor, str | list[str]]]:
    """What libsndfile and PyAV make of a file together, and PyAV alone."""
    with monkeypatch.context() as patch:
        mixed = outcome(data, caplog)
        patch.setattr(media, "lossless", refuse)
        return [mixed, outcome(data, caplog)]


def encoded(wave: np.ndarray, container: str, subtype: str, rate: int = 16000) -> bytes:
    """`wave` [S] or [S, channels] as the bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, subtype, format=container)
    return file.getvalue()


def music(seconds: float, channels: int = 1, rate: int = 16000) -> np.ndarray:
    """[S, channels], every channel another noise on another tone."""
    noise = 0.05 * np.random.default_rng(0).standard_normal((int(seconds * rate), channels))
    return noise + np.stack([tone(seconds, rate, 300.0 * (n + 1), 0.6 / (n + 1)) for n in range(channels)], axis=1)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    "container, subtype",
    [("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")]
    + [("WAVEX", "PCM_16"), ("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
)
def test_libsndfile_reads_what_pyav_reads(container, subtype, channels, caplog, monkeypatch):
    data = encoded(music(5.0, channels), container, subtype)
    (ours, _), (pyavs, _) = both(data, caplog, monkeypatch)
    torch.testing.assert_close(ours, pyavs, atol=1e-6, rtol=0)
    monkeypatch.setattr(media, "open_media", refuse)  # libsndfile alone is enough for these
    assert torch.equal(load_audio(io.BytesIO(data)), ours)


@pytest.mark.parametrize(
    "container, subtype, rate",
    [
        ("WAV", "PCM_16", 8000),
        ("FLAC", "PCM_16", 44100),
        ("WAV", "ULAW", 16000),
        ("WAV", "IMA_ADPCM", 16000),
        ("MP3", "MPEG_LAYER_III", 16000),
        ("OGG", "VORBIS", 16000),
        ("OGG", "OPUS", 16000),
        ("AIFF", "PCM_16", 16000),
    ],
)
def test_all_else_is_pyavs(container, subtype, rate, caplog, monkeypatch):
    data = encoded(music(1.0, 2, rate), container, subtype, rate)
    (ours, _), (pyavs, _) = both(data, caplog, monkeypatch)
    assert torch.equal(ours, pyavs) and len(ours) == pytest.approx(SAMPLE_RATE, rel=0.05)


@pytest.mark.parametrize("container, subtype", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16")])
def test_damage_is_what_it_is_to_pyav(container, subtype, caplog, monkeypatch):
    """Samples, warnings and errors, wherever the damage is behind the header; cuts are anywhere."""
    caplog.set_level(logging.WARNING)
    draw = np.random.default_rng(1)
    whole = encoded(music(9.0)[:, 0], container, subtype)
    cuts = [whole[:size] for size in (12, 30, 44, 60, *draw.integers(100, len(whole), 6))]
    damaged = []
    for place in draw.integers(100, len(whole) - 2000, 8):
        damaged.append(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        damaged.append(whole[:place] + draw.bytes(1001) + whole[place:])
        damaged.append(whole[:place] + whole[place + 1000 :])
    for data in (*cuts, *damaged):
        (ours, said), (pyavs, expected) = both(data, caplog, monkeypatch)
        assert said == expected
        torch.testing.assert_close(ours, pyavs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [0, 8000])
def test_a_flac_file_may_be_longer_than_its_header_says(samples, caplog, monkeypatch):
    data = bytearray(encoded(music(9.0), "FLAC", "PCM_16"))
    data[22:26] = samples.to_bytes(4, "big")  # 0 is what encoders write that cannot go back
    (ours, _), (pyavs, _) = both(bytes(data), caplog, monkeypatch)
    assert len(ours) == 9 * SAMPLE_RATE and torch.equal(ours, pyavs)


@pytest.mark.parametrize(
    "suffix, container, subtype",
    [
        (".mp3", "WAV", "PCM_16"),
        (".wav", "FLAC", "PCM_16"),
        (".wav", "MP3", "MPEG_LAYER_III"),
        (".flac", "OGG", "OPUS"),
    ],
)
def test_a_name_may_lie(tmp_path, suffix, container, subtype):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(music(1.0), container, subtype))
    assert len(load_audio(path)) == SAMPLE_RATE


def test_a_file_that_cannot_seek_is_read(caplog):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation

    data = encoded(music(1.0), "WAV", "PCM_16")
    assert torch.equal(load_audio(Pipe(data)), load_audio(io.BytesIO(data)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_one_sample_that_is_no_number_is_found(value, channels, recwarn):
    wave = music(9.0, channels)
    wave[100_000] = value * np.array([1, -1])[:channels]
    with pytest.raises(MediaError, match="not numbers"):
        load_audio(io.BytesIO(encoded(wave, "WAV", "FLOAT")))
    assert not recwarn


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("container, channels", [("WAV", 8), ("FLAC", 8), ("WAV", 31)])
def test_many_channels(container, channels, rate):
    wave = load_audio(io.BytesIO(encoded(np.tile(tone(1.0, rate)[:, None], channels), container, "PCM_16", rate)))
    assert wave[4000:12000].abs().max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_memory_is_bounded(tmp_path, container):
    path = tmp_path / "a"
    path.write_bytes(encoded(np.tile(music(1.0, 2), (300, 1)), container, "PCM_16"))
    tracemalloc.start()
    try:
        assert sum(map(len, stream_audio(path, 1.0))) == 300 * SAMPLE_RATE
        assert tracemalloc.get_traced_memory()[1] < 3e6  # the whole is 19 MB
    finally:
        tracemalloc.stop()


def bursts(path, **options):
    """Where sound begins and ends, in seconds, and what was lost."""
    lost = []
    wave = torch.cat(list(stream_audio(path, lost=lost, **options)))
    loud = (wave.abs() > 0.1).nonzero().flatten() / SAMPLE_RATE
    breaks = (loud.diff() > 0.05).nonzero().flatten() + 1
    return [(float(part[0]), float(part[-1])) for part in loud.tensor_split(breaks)], lost


@pytest.mark.parametrize(
    "name, codec, form",
    [
        ("a.mkv", "aac", None),
        ("a.mp4", "aac", None),
        ("a.mov", "aac", None),
        ("a.webm", "libopus", None),
        ("a.flv", "aac", None),
        ("a.ts", "aac", "mpegts"),
    ],
)
def test_late_tracks_and_pauses_stay_in_step_with_the_picture(tmp_path, name, codec, form):
    sound = [(tone(1.0), 2.0), (tone(1.0), 5.0)]
    path = write_tracks(tmp_path / name, sound, codec=codec, form=form, frames=shades(70))
    found, lost = bursts(path)
    assert np.array(found) == pytest.approx(np.array([[2, 3], [5, 6]]), abs=0.03) and lost == []
    assert probe_audio(path) == pytest.approx(6.0, abs=1.1), "some headers know the longest track only"


def test_time_counts_from_where_the_file_begins_to_play(tmp_path):
    path = write_tracks(tmp_path / "a.mkv", [(tone(1.0), 102.0)], frames=shades(50), start=100.0)
    assert np.array(bursts(path)[0]) == pytest.approx(np.array([[2, 3]]), abs=0.03)
    alone = write_tracks(tmp_path / "b.mkv", [(tone(1.0), 5.0)])
    assert len(load_audio(alone)) == pytest.approx(SAMPLE_RATE, abs=100)


def damage(path, at, size=600):
    data = bytearray(path.read_bytes())
    place = int(at * len(data))
    data[place : place + size] = np.random.default_rng(0).bytes(size)
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.ogg", "a.webm", "a.mkv", "a.flac"])
def test_damage_in_the_middle_is_skipped_and_said(tmp_path, name, caplog):
    wave = np.concatenate([tone(8.0), np.zeros(16000, np.float32), tone(1.0)])
    wave += 0.01 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    path = write_audio(tmp_path / name, wave, codec="aac" if name == "a.mkv" else None)
    whole, _ = bursts(path)
    damage(path, 0.4)
    found, lost = bursts(path)
    assert found[-1] == pytest.approx(whole[-1], abs=0.1), "what comes after keeps its time"
    (start, end), seconds = lost[0], sum(end - start for start, end in lost)
    assert 2.5 < start < end < 8.5 and 0.01 < seconds < 6
    load_audio(path)
    assert len(caplog.messages) == 1 and f"{name}: damaged: " in caplog.messages[0]


def test_tags_between_and_behind_frames_are_not_damage(tmp_path):
    data = write_audio(tmp_path / "a.mp3", tone(2.0)).read_bytes()
    tags = b"ID3\4\0\0\0\0\x1f\x76" + bytes(4086)
    (tmp_path / "b.mp3").write_bytes(data + tags + data + b"APETAGEX" + bytes(range(1, 256)) * 9)
    wave, lost = [], []
    for chunk in stream_audio(tmp_path / "b.mp3", lost=lost):
        wave.append(chunk)
    assert lost == [] and len(torch.cat(wave)) == pytest.approx(4 * SAMPLE_RATE, rel=0.05)


def test_the_lost_end_is_said(tmp_path):
    for name, codec in (("a.mp3", None), ("a.mkv", "aac"), ("a.flac", None)):
        path = write_audio(tmp_path / name, music(8.0)[:, 0], codec=codec)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        found, lost = bursts(path)
        assert lost == [pytest.approx((found[-1][1], 8.0), abs=0.2)]


def test_joined_ogg_files_follow_each_other(tmp_path):
    data = write_audio(tmp_path / "a.opus", tone(1.0)).read_bytes()
    (tmp_path / "b.opus").write_bytes(data + data)
    found, lost = bursts(tmp_path / "b.opus")
    assert found[-1][1] == pytest.approx(2.0, abs=0.05) and lost == []


def test_opposite_channels_are_not_silence(tmp_path):
    both = np.stack([tone(0.5), -tone(0.5)])
    for name in ("a.wav", "a.m4a"):
        wave = load_audio(write_audio(tmp_path / name, both, layout="stereo"))
        assert wave[4000:7000].abs().max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("subtype, rate", [("PCM_16", 16000), ("PCM_24", 44100), ("FLOAT", 8000)])
@pytest.mark.parametrize("channels", [1, 2])
def test_big_endian_wav(tmp_path, subtype, rate, channels):
    wave = music(1.0, channels, rate)
    soundfile.write(tmp_path / "big.wav", wave, rate, subtype, endian="BIG")
    soundfile.write(tmp_path / "little.wav", wave, rate, subtype)
    assert (tmp_path / "big.wav").read_bytes()[:4] == b"RIFX"
    torch.testing.assert_close(load_audio(tmp_path / "big.wav"), load_audio(tmp_path / "little.wav"), atol=1e-4, rtol=0)
    (tmp_path / "big.wav").write_bytes(b"RIFX\0\0\0\0WAVEfmt nothing")
    with pytest.raises(MediaError, match="big.wav: a big-endian WAV"):
        load_audio(tmp_path / "big.wav")


def test_two_chunks_of_samples(tmp_path):
    data = encoded(music(1.0)[:, 0], "WAV", "PCM_16")
    start = data.index(b"data")
    (tmp_path / "a.wav").write_bytes(data + b"LIST\4\0\0\0abcd" + data[start:])
    (tmp_path / "b.wav").write_bytes(encoded(music(1.0)[:, 0], "WAV", "PCM_16", 8000) + data[start:])
    assert len(load_audio(tmp_path / "b.wav")) == 4 * SAMPLE_RATE, "of another rate"
    wave = load_audio(tmp_path / "a.wav")
    assert len(wave) == 2 * SAMPLE_RATE and torch.equal(wave[:SAMPLE_RATE], wave[SAMPLE_RATE:])


def test_a_track_is_chosen(tmp_path):
    tracks = [[(tone(1.0, pitch=pitch), 0.0)] for pitch in (300.0, 600.0, 900.0)]
    path = write_tracks(tmp_path / "a.mp4", *tracks, codec="aac")

    def pitch(track=None):
        wave = torch.cat(list(stream_audio(path, track=track)))[4000:12000]
        return float(torch.fft.rfft(wave).abs().argmax()) * 2

    assert [pitch(), pitch(1), pitch(2), pitch(3)] == pytest.approx([300, 300, 600, 900], abs=4)
    for number in (0, 4):
        with pytest.raises(MediaError, match=f"a.mp4: has no audio track {number}, only 3; choose another --track"):
            pitch(number)
    with pytest.raises(MediaError, match="no audio track 2, only 1"):
        list(stream_audio(write_audio(tmp_path / "a.wav", tone(1.0)), track=2))


def test_the_default_track_is_the_containers(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        streams[1].disposition = Disposition.default
        streams[0].disposition = Disposition.dub
        for stream, level in zip(streams, (0.2, 0.6), strict=True):
            samples = (32767 * tone(1.0, level=level)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
    assert load_audio(path).abs().max() == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("rate", [1, 100, 3999, 10_000_000])
def test_rates_at_which_nobody_records_are_refused_from_the_header(rate, monkeypatch):
    data = bytearray(encoded(music(0.5)[:, 0], "WAV", "PCM_16"))
    data[24:28] = rate.to_bytes(4, "little")
    monkeypatch.setattr(media, "decode", None)
    with pytest.raises(MediaError, match=f"{rate} samples a second"):
        load_audio(io.BytesIO(data))


def test_one_hour_at_most_is_held(tmp_path, monkeypatch):
    """A small file with an hour's pause, or hours of silence: streamed it is, held in memory it is not."""
    path = write_tracks(tmp_path / "a.mkv", [(tone(0.5), 0.0), (tone(0.5), 3500.0)])
    assert path.stat().st_size < 300_000
    tracemalloc.start()
    try:
        assert sum(map(len, stream_audio(path, 1.0))) == pytest.approx(3500.5 * SAMPLE_RATE, rel=1e-4)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(media, "MAX_HELD", 3000.0)
    with pytest.raises(MediaError, match="longer than"):
        load_audio(path)


def flv_tag(kind: int, time: int, body: bytes) -> bytes:
    head = bytes([kind]) + len(body).to_bytes(3, "big") + time.to_bytes(3, "big") + bytes(4)
    return head + body + (len(head) + len(body)).to_bytes(4, "big")


def test_a_track_may_appear_late(tmp_path):
    """Sound begins 100 s into an FLV file whose header names no audio: FFmpeg looks at 90 s."""
    film = write_film(tmp_path / "a.flv", shades(1)).read_bytes()
    size = int.from_bytes(film[film.index(b"FLV") + 9 + 4 + 1 : film.index(b"FLV") + 9 + 4 + 4], "big")
    first = 13 + 11 + size + 4
    length = int.from_bytes(film[first + 1 : first + 4], "big")
    picture = film[first + 11 : first + 11 + length]
    samples = (32767 * tone(1.0, 44100)).astype("<i2")
    sound = [samples[start : start + 4410].tobytes() for start in range(0, len(samples), 4410)]
    tags = [(9, 1000 * second, picture) for second in range(105)]
    tags += [(8, 100_000 + 100 * i, b"\x3e" + data) for i, data in enumerate(sound)]
    tags.sort(key=lambda tag: tag[1])
    path = tmp_path / "late.flv"
    path.write_bytes(b"FLV\1\1\0\0\0\x09\0\0\0\0" + b"".join(flv_tag(*tag) for tag in tags))
    assert np.array(bursts(path)[0]) == pytest.approx(np.array([[100, 101]]), abs=0.03)


@pytest.mark.parametrize(
    "name, codec, form",
    [
        ("a.ts", "aac", "mpegts"),
        ("a.m2ts", "aac", "mpegts"),
        ("a.mpg", "mp2", "mpeg"),
        ("a.vob", "ac3", "vob"),
        ("a.au", "pcm_s16be", None),
        ("a.caf", "pcm_s16le", None),
        ("a.w64", "pcm_s16le", None),
        ("a.aif", "pcm_s16be", None),
        ("a.mp2", "mp2", None),
        ("a.3gp", "aac", None),
        ("a.m4b", "aac", "mp4"),
        ("a.wv", "wavpack", None),
        ("a.mka", "flac", None),
        ("a.ac3", "ac3", None),
        ("a.voc", "pcm_s16le", None),
    ],
)
def test_formats_that_people_have(tmp_path, name, codec, form):
    assert (tmp_path / name).suffix in MEDIA_SUFFIXES
    path = write_tracks(tmp_path / name, [(tone(1.0), 0.0)], codec=codec, form=form)
    wave = load_audio(path)
    assert len(wave) == pytest.approx(SAMPLE_RATE, rel=0.1) and wave[4000:12000].abs().max() == pytest.approx(
        0.5, abs=0.06
    )
