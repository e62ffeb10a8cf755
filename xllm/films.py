"""Hostile films in, a few frames out: moments spread evenly over any video or animated picture (PyAV, Pillow).

A film is sought in, so ten hours cost about as much as ten minutes. One that does not say how long it is, or cannot
be sought in, is decoded through, up to a limit.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from av.stream import Disposition
from PIL import Image
from torch import Tensor

from xllm.errors import MediaError
from xllm.media import MAX_PIXELS, existing, name_of, open_media
from xllm.pictures import is_webp, over_white, webp_frames

MAX_DECODED = 20_000  # frames: eleven minutes at 30 a second, or 160 times half of 250, x264's gap between key frames
_MOST_PIXELS = 60_000_000_000  # decoded: fewer frames, where they are larger than 1080p
_LEAST_PIXELS, _PIXELS_PER_BYTE = 2_000_000_000, 5_000  # of a small file, four seconds' work; a film has more bytes
_BACK = (0, 1, 4, 16)  # seconds before a moment at which its key frame is looked for, where there is no index
LONGER_SIDE = 512  # larger frames are scaled down as they are decoded
_TOO_LARGE = f"frames of more than {MAX_PIXELS // 1_000_000} million pixels"

logger = logging.getLogger(__name__)


def _shrunk(frame: av.VideoFrame | Image.Image) -> Image.Image:
    """RGB, upright, at most LONGER_SIDE pixels wide and high."""
    scale = min(1.0, LONGER_SIDE / max(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    if isinstance(frame, Image.Image):
        return over_white(frame.resize((width, height)))
    image = over_white(Image.fromarray(frame.to_ndarray(format="rgba", width=width, height=height)))
    return image.rotate(frame.rotation, expand=True)


class _Film:
    """The picture track of an open container, and how much of it has been decoded."""

    def __init__(self, container: av.container.InputContainer, name: str):
        tracks = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not tracks:
            raise MediaError(f"{name}: has no video track, only a cover picture")
        track = next((track for track in tracks if track.frames != 1), tracks[0])  # AVIF has a still one, too
        self.container, self.name, self.track, self.first = container, name, track, track.start_time or 0
        self.decoded, self.pixels, self.damaged = 0, 0, 0
        codec = self.track.codec_context
        if codec is None:
            raise MediaError(f"{name}: its video codec is not known here; convert it to mp4 with H.264")
        if codec.width * codec.height > MAX_PIXELS:
            raise MediaError(f"{name}: {_TOO_LARGE}; scale it down")
        self.budget = min(_MOST_PIXELS, max(_LEAST_PIXELS, _PIXELS_PER_BYTE * container.size))
        codec.options = {"max_pixels": str(MAX_PIXELS)}  # for what the header does not say, or says wrongly

    def decode(self, sought: bool = False) -> Iterator[av.VideoFrame]:
        """Frames as they are shown, from where the film stands, or the first key frame if that was `sought`.

        Damaged ones are left out.
        """
        try:
            for packet in self.container.demux(self.track):
                if sought and not packet.is_keyframe:  # formats without an index are sought in by time
                    continue
                sought = False
                self.decoded += 1  # packets, so that damaged ones count
                self.pixels += self.track.codec_context.width * self.track.codec_context.height
                if self.decoded > MAX_DECODED or self.pixels > self.budget:
                    raise MediaError(
                        f"{self.name}: too long for a film without a duration, with so few key frames, or with frames "
                        "so large; convert it with: ffmpeg -i FILE -vf scale=640:-2 -g 100 film.mp4"
                    )
                try:
                    frames = packet.decode()
                except av.FFmpegError:  # of any kind, where bytes mean nothing
                    self.damaged += 1
                    continue
                yield from (frame for frame in frames if frame.pts is not None)
        except av.FFmpegError as error:
            logger.warning("%s: damaged (%s); only what comes before is used", self.name, error.strerror)

    def centres(self, count: int) -> list[int]:
        """Middles of `count` equal spans in the track's time base; none when the duration is not known."""
        length = self.track.duration or self._length()
        return [self.first + (2 * i + 1) * length // (2 * count) for i in range(count)] if length > 0 else []

    def _length(self) -> int:
        """By the container; where a film starts late, some count from 0: then its last packets say."""
        length = int((self.container.duration or 0) / av.time_base / self.track.time_base)
        if length and self.first:
            with suppress(av.FFmpegError):
                self.container.seek(self.first + length, stream=self.track)
                ends = (p.pts + (p.duration or 0) for p in self.container.demux(self.track) if p.pts is not None)
                return max(ends, default=self.first + length) - self.first
        return length

    def _sought(self, target: int) -> Iterator[av.VideoFrame]:
        """Frames from the key frame before `target`; of what cannot be sought in, from where it stands."""
        second = int(1 / self.track.time_base)
        for back in _BACK:
            try:  # decoding begins a little before what is shown first
                self.container.seek(max(self.first - second, target - back * second), stream=self.track)
            except av.FFmpegError:
                return self.decode()
            frames = self.decode(sought=True)
            first = next(frames, None)
            if first is not None and first.pts <= target:
                break
        return frames if first is None else chain([first], frames)

    def at(self, targets: Iterable[int]) -> Iterator[av.VideoFrame | None]:
        """The frame shown at each of the rising `targets`; None where nothing can be decoded.

        Where a seek lands behind what is decoded already, key frames lie farther apart than targets: decoding goes
        on to the next target then, because a seek would reach the same key frame again.
        """
        shown, following, reached, sparse = None, None, None, False
        for target in targets:
            if not sparse:
                frames = self._sought(target)
                shown, following = None, next(frames, None)
                sparse = None not in (following, reached) and following.pts < reached
            while following is not None and following.pts <= target:
                shown, following = following, next(frames, None)
                sparse = sparse and not (following and following.key_frame)
            frame = shown or following
            reached = frame.pts if frame else reached
            yield frame


def _spread(frames: Iterable[av.VideoFrame | Image.Image], count: int) -> list[Image.Image]:
    """`count` of an unknown number of frames, evenly: in one pass that holds 8 * count, the nearest of those."""
    held, stride, seen = [], 1, 0
    for seen, frame in enumerate(frames, 1):
        if (seen - 1) % stride == 0:
            if len(held) == 8 * count:
                held, stride = held[::2], 2 * stride
            held.append(_shrunk(frame))
    return [held[(2 * i + 1) * seen // (2 * count) // stride] for i in range(count)] if held else []


def _moments(source: str | BinaryIO, count: int, name: str) -> list[Image.Image | None]:
    """The `count` pictures; None where nothing can be decoded."""
    if is_webp(source):
        return _spread(webp_frames(source, MAX_DECODED), count)
    with open_media(source, "video") as container:
        film = _Film(container, name)
        if targets := film.centres(count):
            shown = [frame and _shrunk(frame) for frame in film.at(targets)]
        else:
            shown = _spread(film.decode(), count)
        if film.damaged:
            logger.warning("%s: damaged: %d packets cannot be decoded; others stand in for them", name, film.damaged)
        return shown


def load_frames(source: Path | str | BinaryIO, count: int) -> Tensor:
    """The frames shown in the middles of `count` equal spans of the film: uint8 [T, 3, H, W], RGB, T = `count`.

    H and W are at most LONGER_SIDE. Where the film has fewer frames, they are repeated. `source` is a path or an
    open binary file. Raises MediaError.
    """
    name, source = name_of(source), existing(source)
    images = []
    with suppress(av.FFmpegError):  # raised by frames that cannot be converted
        images = _moments(source, count, name)
    nearest = next(filter(None, images), None)
    if nearest is None:
        raise MediaError(f"{name}: no frame can be decoded: damaged, or {_TOO_LARGE}; copy it again, or scale it down")
    size, frames = nearest.size, []
    for image in images:
        nearest = image or nearest
        frames.append(np.array(nearest if nearest.size == size else nearest.resize(size)))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
