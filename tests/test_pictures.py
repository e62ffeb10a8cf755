"""Pictures: whatever a camera, a scanner or the web gives becomes upright 8-bit RGB; what is broken says so."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from media_files import shades, write_animation
from PIL import Image, ImageOps

from xllm.errors import MediaError
from xllm.pictures import PICTURE_SUFFIXES, load_picture


def quarters(height=24, width=36):
    """A picture [H, W, 3] whose four quarters differ."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (250, 20, 20)
    picture[: height // 2, width // 2 :] = (20, 250, 20)
    picture[height // 2 :, : width // 2] = (20, 20, 250)
    picture[height // 2 :, width // 2 :] = (240, 240, 240)
    return picture


def save(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_every_format_gives_the_same_picture(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", quarters())
    picture = load_picture(path)
    assert picture.dtype == torch.uint8 and picture.shape == (3, 24, 36) and picture.is_contiguous()
    middles = picture[:, 6::12, 9::18].permute(1, 2, 0).float()  # of the quarters, away from JPEG's edges
    assert (middles - torch.from_numpy(quarters()[6::12, 9::18]).float()).abs().max() <= 16
    with open(path, "rb") as file:
        assert torch.equal(load_picture(file), picture)
    assert torch.equal(load_picture(io.BytesIO(path.read_bytes())), picture)


def test_one_pixel_is_a_picture(tmp_path):
    assert load_picture(save(tmp_path / "a.png", np.uint8([[[1, 2, 3]]]))).flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize("name, kind", [("a.png", np.uint16), ("a.tif", np.uint16), ("b.tif", np.int32)])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name, kind):
    ramp = np.arange(256).repeat(4).reshape(32, 32)
    picture = load_picture(save(tmp_path / name, (ramp * 257).astype(kind)))
    assert torch.equal(picture, torch.from_numpy(ramp).to(torch.uint8).expand(3, 32, 32))


def test_sixteen_bits_with_the_high_byte_first(tmp_path):
    ramp = (np.arange(256) * 257).astype(">u2")
    tags = [(256, 256), (257, 1), (258, 16), (259, 1), (262, 1), (273, 122), (277, 1), (278, 1), (279, 512)]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    path = tmp_path / "a.tif"
    path.write_bytes(b"MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4) + ramp.tobytes())
    assert load_picture(path)[0, 0].tolist() == list(range(256))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_white_paper_shows_through(tmp_path, mode):
    image = Image.new("RGBA", (4, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    if mode == "P":
        image = image.quantize(4)
    else:
        image.putpixel((1, 0), (0, 0, 0, 127))
        image = image.convert(mode)
    row = load_picture(save(tmp_path / "a.png", image))[0, 0].tolist()
    assert row[0] == 0 and row[2:] == [255, 255]
    assert mode == "P" or row[1] == pytest.approx(128, abs=1)


def test_a_transparent_grey_is_white(tmp_path):
    path = save(tmp_path / "a.png", np.uint8([[7, 9]]), transparency=7)
    assert load_picture(path)[:, 0].tolist() == [[255, 9]] * 3


def test_cmyk(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink
    for name in ("a.jpg", "a.tif"):
        red, green, blue = load_picture(save(tmp_path / name, image)).float().mean((1, 2)).tolist()
        assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif"])
def test_cameras_are_turned_upright(tmp_path, suffix):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        path = save(tmp_path / f"a{suffix}", quarters(), exif=exif)
        with Image.open(path) as image:
            upright = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        assert torch.equal(load_picture(path), torch.from_numpy(upright).permute(2, 0, 1)), orientation
        assert upright.shape == ((24, 36, 3) if orientation < 5 else (36, 24, 3))


def test_damaged_exif_does_not_matter(tmp_path):
    path = save(tmp_path / "a.jpg", quarters(), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_picture(path).shape == (3, 24, 36)


def test_pages_and_previews_are_not_films(tmp_path):
    page, other = Image.fromarray(quarters()), Image.new("RGB", (36, 24))
    for name, kind in (("a.tif", "TIFF"), ("a.jpg", "MPO")):
        path = save(tmp_path / name, page, format=kind, save_all=True, append_images=[other])
        assert load_picture(path)[0, 5, 5] > 230, "the first one is the picture"


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.avif", "a.png"])
def test_animations_are_told_to_be_videos(tmp_path, name):
    with pytest.raises(MediaError, match="--video"):
        load_picture(write_animation(tmp_path / name, shades(3)))


@pytest.mark.parametrize("side", [40_000, 12_000, 8_000])  # Pillow raises, warns, and says nothing
def test_too_many_pixels_are_refused_from_the_header(tmp_path, side):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MediaError, match="bomb.png: more than 50 million pixels"):
            load_picture(path)


def test_a_wide_picture_within_the_limit(tmp_path):
    assert load_picture(save(tmp_path / "a.png", Image.new("L", (60_000, 2)))).shape == (3, 2, 60_000)


def bad_files(folder):
    (folder / "text.png").write_text("这不是图片" * 100, encoding="utf-8")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    (folder / "drawing.png").write_text('<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///a"/></svg>')
    save(folder / "print.png", Image.new("RGB", (8, 8)), format="EPS")
    save(folder / "fractions.tif", np.ones((4, 4), np.float32))
    for name in ("cut.jpg", "cut.png", "cut.webp", "cut.tif"):
        whole = save(folder / name, np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return {
        "text.png": "not a picture",
        "empty.png": "empty",
        "folder.png": "folder",
        "none.png": "no such file",
        "drawing.png": "not a picture",
        "print.png": "not a picture",
        "fractions.tif": "fractions",
        "cut.jpg": "damaged",
        "cut.png": "damaged",
        "cut.webp": "damaged",
        "cut.tif": "damaged|not a picture",
    }


def test_bad_files_say_so_in_one_line(tmp_path):
    for name, expected in bad_files(tmp_path).items():
        with pytest.raises(MediaError, match=expected) as caught:
            load_picture(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
