"""Hostile files in, tensors out: any audio, or the sound of any video, to 16 kHz mono (PyAV, FFmpeg inside).

Formats are an allow-list of such that refer to no other file, and only the file itself is read, so no playlist or
network address is ever followed. Times are kept: what the file plays after 12 seconds is at 12 seconds of the samples
(`timeline.py`). What corpora are made of, WAV and FLAC files at 16 kHz, is read by libsndfile (`lossless.py`).
`pictures.py` and `films.py` open their files through here, too.
"""

import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from av.stream import Disposition
from torch import Tensor

from xllm.decoding import SAMPLE_RATE, check_rate, decode, resampled, stated_seconds, timeline
from xllm.downmix import Downmix
from xllm.errors import MediaError
from xllm.lossless import NotLossless, in_one, is_rifx, lossless, rifx
from xllm.members import Stretch, split_reference
from xllm.spool import Spool, spool
from xllm.timeline import Lost, describe

MAX_SECONDS = 24 * 3600.0
MAX_HELD = 3600.0  # seconds of sound in memory at once
MAX_PIXELS = 50_000_000  # of a picture, or of one frame of a film
AUDIO_SUFFIXES = tuple(
    ".wav .wave .w64 .mp3 .mp2 .mpga .m4a .m4b .m4r .aac .flac .ogg .oga .opus .spx .wma .aif .aiff .aifc .amr .awb "
    ".3ga .caf .au .snd .mka .weba .wv .ape .tta .ac3 .eac3 .ec3 .voc .sph".split()
)
VIDEO_SUFFIXES = tuple(
    ".mp4 .m4v .mov .qt .3gp .3g2 .mkv .webm .avi .divx .flv .f4v .ts .mts .m2ts .mpg .mpeg .vob .ogv .wmv .asf .rm "
    ".rmvb".split()
)
MEDIA_SUFFIXES = frozenset(AUDIO_SUFFIXES + VIDEO_SUFFIXES)  # what is looked for inside directories
_FORMATS = (
    "wav,w64,mp3,mov,mp4,m4a,aac,flac,ogg,matroska,webm,asf,aiff,amr,caf,avi,flv,mpegts,mpeg,au,wv,ape,tta,ac3,eac3,"
    "voc,nistsphere,rm"
)
_OPTIONS = {
    "format_whitelist": f"{_FORMATS},gif,apng",
    "protocol_whitelist": "file,pipe",
    "max_pixels": str(MAX_PIXELS),  # FFmpeg decodes a frame to probe a film, before its header can be looked at here
}
_LATE = ("flv", "mpeg", "mpegts")  # formats that name a track when it begins
_FURTHER = {"probesize": str(1 << 27), "analyzeduration": str(3600 * av.time_base)}  # 128 MB, an hour: to find it
_ADVICE = {"audio": "convert it to wav, mp3, flac or mp4", "video": "convert it to mp4, webm or gif"}

logger = logging.getLogger(__name__)


def name_of(source: Path | str | BinaryIO) -> str:
    """What messages call `source`; an open file without a name is taken for the standard input."""
    name = source if isinstance(source, str | Path) else getattr(source, "name", None)
    return str(name) if isinstance(name, str | Path) else "<stdin>"


def existing(source: Path | str | BinaryIO) -> str | BinaryIO:
    """`source` again, when it is an open file or a file that holds something.

    A member of an archive is opened, and what comes through a pipe is read: open files, which can be sought in.
    Raises MediaError.
    """
    name = name_of(source)
    if not isinstance(source, str | Path):
        if isinstance(source, Spool):
            return source.again()
        return source if source.seekable() else spool(source, name)
    path = str(source)
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if member := split_reference(path):
            return _member(member, name)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise MediaError(f"{name}: cannot be read: {error.strerror}") from None
        raise MediaError(f"{name}: no such file") from None
    if stat.S_ISDIR(found.st_mode):
        raise MediaError(f"{name}: is a folder, not a media file")
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        raise MediaError(f"{name}: is a device, not a media file")
    if not stat.S_ISREG(found.st_mode):
        with opened(path, name) as pipe:
            return spool(pipe, name)
    if found.st_size == 0:
        raise MediaError(f"{name}: the file is empty; copy it again")
    return path


def is_pipe(source: Path | str | BinaryIO) -> bool:
    """Whether it is the name of what can be read once: a named pipe, or `/dev/fd/63` of `<(command)`."""
    try:
        mode = os.stat(source).st_mode
    except (OSError, ValueError, TypeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def rereadable(source: Path | str | BinaryIO) -> Path | str | BinaryIO:
    """`source`, or what comes through it if it is a pipe: to be opened several times. Raises MediaError."""
    return existing(source) if is_pipe(source) else source


def _member(member: tuple[str, int, int], name: str) -> BinaryIO:
    try:
        return io.BufferedReader(Stretch(*member))
    except OSError as error:
        raise MediaError(f"{name}: cannot be read: {error.strerror}") from None


def opened(source: str | BinaryIO, name: str) -> AbstractContextManager[BinaryIO]:
    """What `existing` returned as an open file, which is closed afterwards if it was opened here. Raises MediaError.

    FFmpeg gets no names: it would take what stands before a colon for a protocol.
    """
    try:
        return open(source, "rb") if isinstance(source, str) else nullcontext(source)
    except OSError as error:
        raise MediaError(f"{name}: cannot be read: {error.strerror}") from None


@contextmanager
def open_media(
    source: Path | str | BinaryIO, kind: str = "audio", name: str | None = None
) -> Iterator[av.container.InputContainer]:
    """Open a container with a track of `kind`, audio or video; MediaError says what is wrong with the file `name`."""
    name = name or name_of(source)
    with opened(existing(source), name) as file:
        try:
            with _container(file, name, kind) as container:
                yield container
        except OSError as error:
            if isinstance(error, av.FFmpegError):
                raise
            raise MediaError(f"{name}: cannot be read: {error.strerror or error}") from None


def _open(file: BinaryIO, name: str, kind: str, **options: str) -> av.container.InputContainer:
    try:
        return av.open(file, options=_OPTIONS | options)
    except (av.FFmpegError, ValueError):
        raise MediaError(f"{name}: not a media file xllm reads, or damaged; {_ADVICE[kind]}") from None


@contextmanager
def _container(file: BinaryIO, name: str, kind: str) -> Iterator[av.container.InputContainer]:
    start = file.tell()
    container = _open(file, name, kind)
    if container.format.name in _LATE and not _has(container, kind):
        container.close()
        file.seek(start)
        container = _open(file, name, kind, **_FURTHER)
    with container:
        if not _has(container, kind):
            raise MediaError(f"{name}: has no {kind} track")
        seconds = (container.duration or 0) / av.time_base
        if seconds > MAX_SECONDS:
            raise MediaError(
                f"{name}: {seconds / 3600:.0f} hours long, the limit is {MAX_SECONDS / 3600:.0f}; split it"
            )
        yield container


def _has(container: av.container.InputContainer, kind: str) -> bool:
    return any(stream.type == kind for stream in container.streams)


def audio_track(container: av.container.InputContainer, name: str, number: int | None = None) -> av.AudioStream:
    """Audio track `number`, from 1; None means the container's default, or else the first. Raises MediaError."""
    tracks = container.streams.audio
    if number is not None and not 1 <= number <= len(tracks):
        raise MediaError(f"{name}: has no audio track {number}, only {len(tracks)}; choose another --track")
    default = next((track for track in tracks if track.disposition & Disposition.default), tracks[0])
    track = default if number is None else tracks[number - 1]
    if track.codec_context is None:
        raise MediaError(f"{name}: its audio codec is not known here; {_ADVICE['audio']}")
    check_rate(track.codec_context.sample_rate, name)
    return track


def _decoded(source: Path | str | BinaryIO, name: str, number: int | None, lost: list[Lost]) -> Iterator[np.ndarray]:
    """Blocks [S, channels] of float32 samples at 16 kHz: by libsndfile as far as it goes, what is left by PyAV."""
    given = 0
    with opened(existing(source), name) as file:
        if file.tell() == 0 and number in (None, 1):
            file = in_one(file)
            if is_rifx(file):
                yield from resampled(rifx(file, name), name)
                return
            try:
                for block in lossless(file, SAMPLE_RATE, int(MAX_SECONDS * SAMPLE_RATE)):
                    given += len(block)
                    yield block
                return
            except NotLossless:
                file.seek(0)
        with open_media(file, name=name) as container:
            line = timeline(container)
            for block in decode(container, audio_track(container, name, number), name, line):
                yield block[given:]
                given = max(0, given - len(block))
            lost += line.lost


def _mono(source: Path | str | BinaryIO, number: int | None, most: float, lost: list[Lost]) -> Iterator[np.ndarray]:
    """Blocks [S] of float32 samples at 16 kHz, not none and at most `most` seconds. Raises MediaError."""
    name, total = name_of(source), 0
    mix = Downmix(name)
    for block in _decoded(source, name, number, lost):
        total += len(block)
        if total > most * SAMPLE_RATE:
            raise MediaError(f"{name}: longer than {most / 3600:.0f} hours; split it")
        yield from mix(block)
    if total == 0:
        raise MediaError(f"{name}: holds no audio samples")
    yield from mix.rest()


def stream_audio(
    source: Path | str | BinaryIO, chunk_seconds: float = 30.0, track: int | None = None, lost: list[Lost] | None = None
) -> Iterator[Tensor]:
    """Yield the sound as chunks [S] of at most `chunk_seconds`, float32 in -1..1, 16 kHz mono, in bounded memory.

    `source` is a path or an open binary file; `track` one of several audio tracks, from 1, in place of the container's
    default. `lost` gets what damage has cost, when the end is reached. Raises MediaError, also after some chunks.
    """
    size = int(chunk_seconds * SAMPLE_RATE)
    held: list[np.ndarray] = []
    count = 0
    for block in _mono(source, track, MAX_SECONDS, [] if lost is None else lost):
        held.append(block)
        count += len(block)
        while count >= size:
            joined = np.concatenate(held)
            yield torch.from_numpy(joined[:size].copy())
            held, count = [joined[size:]], len(joined) - size
    if count:
        yield torch.from_numpy(np.concatenate(held))


def load_audio(source: Path | str | BinaryIO) -> Tensor:
    """The whole sound as [S], float32 in -1..1, 16 kHz mono; what is lost is logged. Raises MediaError."""
    lost: list[Lost] = []
    wave = torch.from_numpy(np.concatenate(list(_mono(source, None, MAX_HELD, lost))))
    if lost:
        logger.warning("%s: %s", name_of(source), describe(lost))
    return wave


def probe_audio(source: Path | str | BinaryIO) -> float:
    """Seconds of sound from where the file begins to play, from the header, or by decoding when that does not say.

    Raises MediaError.
    """
    name, held = name_of(source), existing(source)
    with open_media(held) as container:
        track, seconds = audio_track(container, name), stated_seconds(container)
        if seconds is not None and track.duration and track.time_base:
            delay = (track.start_time or 0) * track.time_base - Fraction(container.start_time or 0, av.time_base)
            return float(track.duration * track.time_base + delay)
        if seconds is not None:
            return seconds
    if not isinstance(held, str):
        held.seek(0)
    return sum(len(chunk) for chunk in stream_audio(held)) / SAMPLE_RATE
