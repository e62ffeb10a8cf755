"""Hostile pictures in, tensors out: what a camera, a scanner or the web gives becomes 8-bit RGB (Pillow).

Formats are an allow-list, and the pixel limit is checked from the header, before anything is decoded.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from xllm.errors import MediaError
from xllm.media import MAX_PIXELS, existing, name_of

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
_MAX_WEBP = 20 * MAX_PIXELS  # of all pictures of an animation: half a minute, at 50 megapixels per second and more
_FILMS = ("PNG", "WEBP", "AVIF", "GIF")  # several frames move; those of a TIFF are pages, those of a JPEG previews
_UPRIGHT = {  # EXIF orientation: what turns the picture as it was seen
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def open_picture(source: Path | str | BinaryIO, formats: Sequence[str] = _FORMATS) -> Iterator[Image.Image]:
    """A picture within the pixel limit, not decoded yet; whatever fails inside the block raises MediaError."""
    name = name_of(source)
    too_large = MediaError(f"{name}: more than {MAX_PIXELS // 1_000_000} million pixels; scale it down")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's pixel limit is higher than this one, and damage raises below
            with Image.open(existing(source), formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise too_large
                yield image
    except MediaError:
        raise
    except Image.DecompressionBombError:
        raise too_large from None
    except Image.UnidentifiedImageError:
        raise MediaError(f"{name}: not a picture xllm reads, or damaged; convert it to png or jpeg") from None
    except Exception as error:  # Pillow's readers raise whatever they stumble over: SyntaxError, struct.error, ...
        if isinstance(error, OSError) and error.errno:
            raise MediaError(f"{name}: cannot be read: {error.strerror}") from None
        raise MediaError(f"{name}: damaged, cannot be decoded; copy it again") from None


def over_white(image: Image.Image) -> Image.Image:
    """RGB of any 8-bit image; what is transparent shows white paper behind."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits scaled to 8, where Pillow would clip; other images as they are."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image, dtype=np.float32).clip(min=0)
    values *= 255 / max(65535.0, float(values.max()))  # 16-bit greys are often kept in 32-bit integers
    return Image.fromarray(values.round().astype(np.uint8))


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged EXIF does not spoil the picture
        return None


def load_picture(source: Path | str | BinaryIO) -> Tensor:
    """The picture as uint8 [3, H, W], RGB, upright. `source` is a path or an open binary file. Raises MediaError."""
    name = name_of(source)
    with open_picture(source) as image:
        if image.format in _FILMS and getattr(image, "is_animated", False):
            raise MediaError(f"{name}: is animated; give it as a video (--video)")
        image.load()
        if image.mode == "F":
            raise MediaError(f"{name}: its pixels are fractions of unknown range; convert it to png")
        picture, turn = over_white(_eight_bits(image)), _turn(image)
        if turn is not None:
            picture = picture.transpose(turn)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def is_webp(source: str | BinaryIO) -> bool:
    """Whether an existing file, or an open one that can be sought in, begins as WebP does."""
    if isinstance(source, str):
        with suppress(OSError), open(source, "rb") as file:  # whoever opens it next says what is wrong
            return is_webp(file)
        return False
    start = source.read(12)
    source.seek(-len(start), 1)
    return start[:4] == b"RIFF" and start[8:] == b"WEBP"


def webp_frames(source: str | BinaryIO, limit: int) -> Iterator[Image.Image]:
    """The pictures of an animated WebP, which FFmpeg does not read, each valid until the next. Raises MediaError."""
    with open_picture(source, ("WEBP",)) as image:
        if image.n_frames > limit or image.n_frames * image.width * image.height > _MAX_WEBP:
            raise MediaError(f"{name_of(source)}: too many pictures, or too large ones; convert it to mp4")
        for place in range(image.n_frames):
            image.seek(place)
            image.load()  # here, where damage is told
            yield image
