"""Films: `count` frames, evenly spread, of whatever length and format, without decoding what is not needed."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from media_files import FILM_CODECS, shades, tone, write_animation, write_audio, write_film, write_tracks
from PIL import Image

from xllm import films
from xllm.errors import MediaError
from xllm.films import load_frames


def numbers(frames, total, last=240):
    """Which of `total` shades each frame [T, 3, H, W] is, to be compared with `places`."""
    return (frames.float().mean((1, 2, 3)) * (total - 1) / last).numpy()


def places(total, count):
    """The frames shown in the middles of `count` equal spans."""
    return (2 * np.arange(count) + 1) * total // (2 * count)


class Pipe(io.RawIOBase):
    """An open file that cannot be sought in, as the standard input often is."""

    def __init__(self, data):
        self.rest = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.rest.readinto(buffer)


@pytest.mark.parametrize("count", [1, 8, 30])
@pytest.mark.parametrize("suffix", sorted(FILM_CODECS))
def test_frames_are_spread_evenly(tmp_path, suffix, count):
    frames = load_frames(write_film(tmp_path / f"a{suffix}", shades(60)), count)
    assert frames.dtype == torch.uint8 and frames.shape == (count, 3, 32, 48) and frames.is_contiguous()
    assert np.abs(numbers(frames, 60) - places(60, count)).max() <= 1.4, "a frame that begins in the middle may be next"


def test_fragments_have_no_index(tmp_path):
    path = write_film(tmp_path / "a.mp4", shades(100), movflags="frag_keyframe+empty_moov")
    assert np.abs(numbers(load_frames(path, 8), 100) - places(100, 8)).max() <= 3, "to within the frames reordered"


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
@pytest.mark.parametrize("total", [1, 3, 20, 100])
def test_animated_pictures_are_films(tmp_path, name, total):
    if total == 1 and name in ("a.png", "a.avif"):
        return  # that is a picture
    path = write_animation(tmp_path / name, shades(total))
    assert np.abs(numbers(load_frames(path, 8), total) - places(total, 8)).max() <= (0.2 if total <= 64 else 1.2)


@pytest.mark.parametrize("total", [1, 2, 5])
@pytest.mark.parametrize("suffix", sorted(FILM_CODECS.keys() - {".ts"}))  # of which FFmpeg must see some packets
def test_short_films_repeat_frames(tmp_path, suffix, total):
    frames = load_frames(write_film(tmp_path / f"a{suffix}", shades(total)), 20)
    found = numbers(frames, total) if total > 1 else np.zeros(20)
    assert len(frames) == 20 and (np.diff(found) > -0.2).all()
    assert set(found.round()) == set(range(total)), "every frame is there"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".flv", ".ts"])
def test_a_film_may_begin_late(tmp_path, suffix):
    path = write_tracks(tmp_path / f"a{suffix}", frames=shades(60), start=100.0)
    assert np.abs(numbers(load_frames(path, 8), 60) - places(60, 8)).max() <= 1.4
    codec, rate = ("libopus", 48000) if suffix == ".webm" else ("aac", 44100)
    sound = [(tone(1.0), 0.0)]
    both = write_tracks(tmp_path / f"b{suffix}", sound, codec=codec, rate=rate, frames=shades(60), start=100.0)
    assert np.abs(numbers(load_frames(both, 8), 60) - places(60, 8)).max() <= 1.4


def test_open_files_and_pipes_are_read_too(tmp_path):
    for path in (
        write_film(tmp_path / "a.mp4", shades(60)),
        write_animation(tmp_path / "a.gif", shades(20)),
        write_animation(tmp_path / "a.webp", shades(20)),
    ):
        frames, data = load_frames(path, 4), path.read_bytes()
        with open(path, "rb") as file:
            assert torch.equal(load_frames(file, 4), frames)
        assert torch.equal(load_frames(io.BytesIO(data), 4), frames)
        assert torch.equal(load_frames(Pipe(data), 4), frames)


def test_two_hours_are_sought_in(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.mp4", shades(7200, (16, 16)), rate=1, codec="mpeg4", gap=100)
    monkeypatch.setattr(films, "MAX_DECODED", 8 * 101)  # decoding more raises
    assert np.abs(numbers(load_frames(path, 8), 7200) - places(7200, 8)).max() <= 60, "two levels of grey"


def test_one_key_frame_costs_no_more_than_the_film(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.mp4", shades(600, (16, 16)), gap=10_000)
    monkeypatch.setattr(films, "MAX_DECODED", 750)  # sought for each target, it would be 2400
    assert np.abs(numbers(load_frames(path, 8), 600) - places(600, 8)).max() <= 5
    monkeypatch.setattr(films, "MAX_DECODED", 500)
    with pytest.raises(MediaError, match="so few key frames"):
        load_frames(path, 8)


def test_a_recording_without_duration_is_decoded_through(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.webm", shades(240, (16, 16)), live="1")
    for count in (8, 30):
        found = numbers(load_frames(path, count), 240)
        assert np.abs(found - places(240, count)).max() <= (8 if count == 8 else 2)
    monkeypatch.setattr(films, "MAX_DECODED", 200)
    with pytest.raises(MediaError, match="without a duration"):
        load_frames(path, 8)


def test_animations_are_limited_too(tmp_path, monkeypatch):
    monkeypatch.setattr(films, "MAX_DECODED", 10)
    for name, message in (("a.gif", "too long"), ("a.webp", "too many pictures")):
        with pytest.raises(MediaError, match=message):
            load_frames(write_animation(tmp_path / name, shades(20)), 8)


def test_a_small_file_may_not_be_long_work(tmp_path):
    """850 frames of 49 million pixels, of which one changes: 20 kB, and 80 s if all are decoded."""
    frame = b"\x21\xf9\4\4\x0a\0\0\0\x2c" + struct.pack("<HHHHB", 1, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", 7000, 7000, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(head + 850 * frame + b";")
    assert films.MAX_DECODED > 850, "it is not their number"
    with pytest.raises(MediaError, match="frames so large"):
        load_frames(tmp_path / "a.gif", 8)


@pytest.mark.parametrize("suffix", [".mp4", ".webp"])
@pytest.mark.parametrize("size, small", [((720, 1280), (288, 512)), ((1024, 16), (512, 8)), ((60, 512), (60, 512))])
def test_large_frames_are_scaled_down(tmp_path, suffix, size, small):
    write = write_film if suffix == ".mp4" else write_animation
    assert load_frames(write(tmp_path / f"a{suffix}", shades(3, size)), 2).shape == (2, 3, *small)


def test_phones_are_turned_upright(tmp_path):
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:16] = 255  # the light side is above
    path = write_film(tmp_path / "a.mp4", [frame] * 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # clockwise
    path.write_bytes(data)
    frames = load_frames(path, 2)
    assert frames.shape == (2, 3, 48, 32)
    assert frames[..., 20:].min() > 200 and frames[..., :12].max() < 50, "and comes to the right"


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_white_paper_shows_through(tmp_path, name):
    frames = np.zeros((3, 8, 8, 4), np.uint8)
    frames[:, :, 4:] = [[[[0, 0, shade, 255]]] for shade in (0, 100, 200)]
    shown = load_frames(write_animation(tmp_path / name, frames), 3)
    assert (shown[..., :4] == 255).all() and (shown[:, 0, :, 4:] < 20).all()


def test_frames_of_several_sizes_take_the_first(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        for i in range(10):
            jpeg = io.BytesIO()
            Image.new("RGB", (48, 32) if i < 5 else (64, 64)).save(jpeg, "JPEG")
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 10)
            packet.is_keyframe = True
            container.mux(packet)
    assert load_frames(path, 4).shape == (4, 3, 32, 48)


def test_damaged_frames_are_said(tmp_path, caplog):
    path = write_film(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 255, (40, 32, 48, 3), np.uint8))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 9000] = bytes(9000)
    path.write_bytes(data)
    assert len(load_frames(path, 8)) == 8
    assert len(caplog.messages) == 1 and "a.mp4: damaged: " in caplog.messages[0]


def test_damage_in_the_middle_costs_the_frames_there(tmp_path):
    path = write_film(tmp_path / "a.mkv", shades(100))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(data)
    found = numbers(load_frames(path, 8), 100)
    assert np.abs(found[[0, 1, -2, -1]] - places(100, 8)[[0, 1, -2, -1]]).max() <= 1.5


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
def test_a_film_cut_off_repeats_its_last_frame(tmp_path, suffix):
    path = write_film(tmp_path / f"a{suffix}", shades(100))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = load_frames(path, 8)
    assert len(frames) == 8 and (np.diff(numbers(frames, 100)) > -0.5).all()


def test_too_many_pixels_are_refused_from_the_header(tmp_path, monkeypatch):
    gif = bytearray(write_animation(tmp_path / "a.gif", shades(3)).read_bytes())
    gif[6:10] = struct.pack("<HH", 40_000, 40_000)
    webp = bytearray(write_animation(tmp_path / "a.webp", shades(3)).read_bytes())
    canvas = webp.index(b"VP8X") + 12
    webp[canvas : canvas + 6] = (15_999).to_bytes(3, "little") * 2
    film = write_film(tmp_path / "a.mp4", shades(3)).read_bytes()
    for data in (gif, webp):
        with pytest.raises(MediaError, match="more than 50 million pixels"):
            load_frames(io.BytesIO(data), 2)
    monkeypatch.setattr(films, "MAX_PIXELS", 1000)
    monkeypatch.setattr(films._Film, "decode", None)
    with pytest.raises(MediaError, match="million pixels"):
        load_frames(io.BytesIO(film), 2)


def with_cover(path):
    """Put an ID3 tag with a cover picture before an MP3."""
    cover = io.BytesIO()
    Image.new("RGB", (16, 16)).save(cover, "PNG")
    body = b"\0image/png\0\x03\0" + cover.getvalue()
    tag = b"APIC" + struct.pack(">IH", len(body), 0) + body
    size = bytes((len(tag) >> shift) & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + size + tag + path.read_bytes())


def bad_files(folder):
    (folder / "text.mp4").write_text("这不是视频" * 100, encoding="utf-8")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "folder.mp4").mkdir()
    (folder / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.mp4\n")
    write_audio(folder / "sound.mp4", tone(0.5))
    with_cover(write_audio(folder / "song.mp3", tone(0.5)))
    film = write_film(folder / "whole.mp4", shades(20)).read_bytes()
    (folder / "codec.mp4").write_bytes(film.replace(b"avc1\0\0\0\0\0\0\0\1", b"zzzz\0\0\0\0\0\0\0\1"))
    start = film.index(b"mdat") + 4
    length = struct.unpack(">I", film[start - 8 : start - 4])[0] - 8
    (folder / "zeros.mp4").write_bytes(film[:start] + bytes(length) + film[start + length :])
    (folder / "cut.mp4").write_bytes(film[: len(film) // 2])
    webp = write_animation(folder / "cut.webp", shades(20))
    webp.write_bytes(webp.read_bytes()[:400])
    webp = write_animation(folder / "late.webp", np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8))
    data = bytearray(webp.read_bytes())
    data[-2000:] = b"\xff" * 2000  # the last picture
    webp.write_bytes(data)
    return {
        "text.mp4": "not a media file",
        "empty.mp4": "empty",
        "folder.mp4": "folder",
        "none.mp4": "no such file",
        "list.mp4": "not a media file",
        "sound.mp4": "no video track",
        "song.mp3": "cover picture",
        "codec.mp4": "codec",
        "zeros.mp4": "no frame can be decoded",
        "cut.mp4": "no video track|damaged",
        "cut.webp": "damaged",
        "late.webp": "damaged",
    }


def test_bad_files_say_so_in_one_line(tmp_path):
    for name, expected in bad_files(tmp_path).items():
        with pytest.raises(MediaError, match=expected) as caught:
            load_frames(tmp_path / name, 4)
        assert name in str(caught.value) and "\n" not in str(caught.value)
