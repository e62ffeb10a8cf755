"""Hostile files in, tensors out: any audio, or the sound of any video, to 16 kHz mono (PyAV, FFmpeg inside).

Formats are an allow-list and only the file itself is read, so no playlist or network address is ever followed.
What corpora are made of, WAV and FLAC files at 16 kHz, is read by libsndfile, which is faster and gives the same.
`pictures.py` and `films.py` open their files through here, too.
"""

import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import soundfile
import torch
from torch import Tensor

from xllm.errors import MediaError
from xllm.members import Stretch, split_reference
from xllm.spool import Spool, spool

SAMPLE_RATE = 16_000  # Hz
MAX_SECONDS = 24 * 3600.0
MAX_PIXELS = 50_000_000  # of a picture, or of one frame of a film
AUDIO_SUFFIXES = (
    *(".wav", ".w64", ".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".flac", ".ogg", ".oga", ".opus", ".wma"),
    *(".aif", ".aiff", ".amr", ".caf", ".mka"),
)
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".flv")
MEDIA_SUFFIXES = frozenset(AUDIO_SUFFIXES + VIDEO_SUFFIXES)  # what is looked for inside directories
_FORMATS = "wav,w64,mp3,mov,mp4,m4a,aac,flac,ogg,matroska,webm,asf,aiff,amr,caf,avi,flv"
_OPTIONS = {
    "audio": {"format_whitelist": _FORMATS, "protocol_whitelist": "file,pipe"},
    # FFmpeg decodes a frame to probe a film, before its header can be looked at here.
    "video": {
        "format_whitelist": f"{_FORMATS},gif,apng",
        "protocol_whitelist": "file,pipe",
        "max_pixels": str(MAX_PIXELS),
    },
}
_ADVICE = {"audio": "convert it to wav, mp3, flac or mp4", "video": "convert it to mp4, webm or gif"}
_LOSSLESS = frozenset({"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"})
_BLOCK = 1 << 16  # samples, of all channels together, that libsndfile decodes at once

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
    if not isinstance(source, str | Path):
        return source.again() if isinstance(source, Spool) else source
    path, name = str(source), name_of(source)
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
def open_media(source: Path | str | BinaryIO, kind: str = "audio") -> Iterator[av.container.InputContainer]:
    """Open a container with a track of `kind`, audio or video; MediaError says what is wrong with the file."""
    name = name_of(source)
    with opened(existing(source), name) as file:
        try:
            with _container(file, name, kind) as container:
                yield container
        except OSError as error:
            if isinstance(error, av.FFmpegError):
                raise
            raise MediaError(f"{name}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _container(file: BinaryIO, name: str, kind: str) -> Iterator[av.container.InputContainer]:
    try:
        container = av.open(file, options=_OPTIONS[kind])
    except (av.FFmpegError, ValueError):
        raise MediaError(f"{name}: not a media file xllm reads, or damaged; {_ADVICE[kind]}") from None
    with container:
        if not any(stream.type == kind for stream in container.streams):
            raise MediaError(f"{name}: has no {kind} track")
        seconds = (container.duration or 0) / av.time_base
        if seconds > MAX_SECONDS:
            raise MediaError(
                f"{name}: {seconds / 3600:.0f} hours long, the limit is {MAX_SECONDS / 3600:.0f}; split it"
            )
        yield container


def _mono(block: np.ndarray, name: str) -> np.ndarray:
    """The mean of the channels: [S, channels] -> [S]. Raises MediaError."""
    channels = block.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):  # said below, in our words
        mono = block[:, 0] if channels == 1 else block @ np.full(channels, 1 / channels, np.float32)
    if not np.isfinite(mono).all():
        raise MediaError(f"{name}: holds samples that are not numbers (NaN or infinity); export it again")
    return mono


def _lossless(file: BinaryIO, name: str) -> Iterator[np.ndarray]:
    """Mono blocks of float32 samples of a WAV or FLAC file at 16 kHz.

    Raises MediaError, and SoundFileError or OSError, also after some blocks, for what PyAV must read. The first bytes
    decide, since libsndfile would try 26 formats. It notices damage to FLAC files; in MP3 and Ogg files it patches
    damage without a word, so those are not for it.
    """
    head = file.read(12)
    file.seek(0)
    if head[:4] != b"fLaC" and (head[:4], head[8:]) != (b"RIFF", b"WAVE"):
        raise soundfile.SoundFileError("another format")
    with soundfile.SoundFile(file, "r") as sound:
        left = sound.frames
        # PyAV says what is wrong with an empty file; a FLAC file that does not say how long it is counts as endless.
        known = 0 < left <= MAX_SECONDS * SAMPLE_RATE
        if sound.samplerate != SAMPLE_RATE or sound.subtype not in _LOSSLESS or not known:
            raise soundfile.SoundFileError("another rate, encoding or length")
        while left:
            block = sound.read(max(1, _BLOCK // sound.channels), "float32", always_2d=True)
            if not len(block):
                raise soundfile.SoundFileError("shorter than its header says")
            left -= len(block)
            yield _mono(block, name)
        if sound.format == "FLAC" and file.read(1):
            raise soundfile.SoundFileError("longer than its header says")


def _frames(container: av.container.InputContainer, name: str) -> Iterator[np.ndarray]:
    """Mono blocks of float32 samples at 16 kHz, as they are decoded.

    Channels stay apart until they are averaged here: FFmpeg's own mix to mono amplifies two equal channels by 1.414
    in float formats (FACTS 9). They are interleaved, since PyAV crashes on 8 planes and more.
    """
    resampler, setup = None, None
    decoded = False

    def mix(frame: av.AudioFrame) -> np.ndarray:
        return _mono(frame.to_ndarray().reshape(-1, frame.layout.nb_channels), name)

    try:
        for frame in container.decode(audio=0):
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if now != setup:  # chained files may change in the middle
                if resampler is not None:
                    yield from map(mix, resampler.resample(None))
                resampler, setup = av.AudioResampler(format="flt", layout=frame.layout, rate=SAMPLE_RATE), now
            for out in resampler.resample(frame):
                decoded = True
                yield mix(out)
    except av.FFmpegError as error:
        if not decoded:
            raise MediaError(f"{name}: damaged, nothing could be decoded ({error.strerror}); copy it again") from None
        logger.warning("%s: damaged (%s); only what comes before is used", name, error.strerror)
    if resampler is not None:
        yield from map(mix, resampler.resample(None))


def _decoded(source: Path | str | BinaryIO, name: str) -> Iterator[np.ndarray]:
    """Mono blocks of float32 samples at 16 kHz: by libsndfile as far as it goes, what is left by PyAV."""
    given = 0
    with opened(existing(source), name) as file:
        if file.seekable() and file.tell() == 0:
            try:
                for block in _lossless(file, name):
                    given += len(block)
                    yield block
                return
            except (OSError, soundfile.SoundFileError):
                file.seek(0)
        with open_media(file) as container:
            for block in _frames(container, name):
                yield block[given:]
                given = max(0, given - len(block))


def _blocks(source: Path | str | BinaryIO) -> Iterator[np.ndarray]:
    """Mono blocks of float32 samples at 16 kHz, not none and not too many. Raises MediaError."""
    name, total = name_of(source), 0
    for block in _decoded(source, name):
        total += len(block)
        if total > MAX_SECONDS * SAMPLE_RATE:
            raise MediaError(f"{name}: longer than {MAX_SECONDS / 3600:.0f} hours; split it")
        yield block
    if total == 0:
        raise MediaError(f"{name}: holds no audio samples")


def stream_audio(source: Path | str | BinaryIO, chunk_seconds: float = 30.0) -> Iterator[Tensor]:
    """Yield the sound as chunks [S] of at most `chunk_seconds`, float32 in -1..1, 16 kHz mono, in bounded memory.

    `source` is a path or an open binary file. Raises MediaError, also after some chunks.
    """
    size = int(chunk_seconds * SAMPLE_RATE)
    held: list[np.ndarray] = []
    count = 0
    for block in _blocks(source):
        held.append(block)
        count += len(block)
        while count >= size:
            joined = np.concatenate(held)
            yield torch.from_numpy(joined[:size].copy())
            held, count = [joined[size:]], len(joined) - size
    if count:
        yield torch.from_numpy(np.concatenate(held))


def load_audio(source: Path | str | BinaryIO) -> Tensor:
    """The whole sound as [S], float32 in -1..1, 16 kHz mono. Raises MediaError."""
    return torch.from_numpy(np.concatenate(list(_blocks(source))))


def probe_audio(source: Path | str | BinaryIO) -> float:
    """Seconds of sound, from the header, or by decoding when the header does not say. Raises MediaError."""
    with open_media(source) as container:
        stream = container.streams.audio[0]
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        if container.duration:
            return container.duration / av.time_base
    return sum(len(chunk) for chunk in stream_audio(source)) / SAMPLE_RATE
