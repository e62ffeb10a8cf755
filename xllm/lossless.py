"""WAV and FLAC files by libsndfile, which is faster than FFmpeg and gives the same; all else is not for it."""

import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from xllm.errors import MediaError

_ENCODINGS = frozenset({"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"})
_BLOCK = 1 << 16  # samples, of all channels together, decoded at once


class NotLossless(Exception):
    """What FFmpeg must read."""


def lossless(file: BinaryIO, rate: int, most: int) -> Iterator[np.ndarray]:
    """Blocks [S, channels] of float32 samples of a WAV or FLAC file at `rate`, of at most `most` samples.

    Raises NotLossless, also after some blocks. The first bytes decide, since libsndfile would try 26 formats. It
    notices damage to FLAC files; in MP3 and Ogg files it patches damage without a word, so those are not for it.
    """
    try:
        head = file.read(12)
        if head[:4] != b"fLaC" and (head[:4], head[8:]) != (b"RIFF", b"WAVE"):
            raise NotLossless("another format")
        file.seek(0)
        with soundfile.SoundFile(file, "r") as sound:
            # FFmpeg says what is wrong with an empty file; a FLAC file that does not say its length counts as endless.
            if sound.samplerate != rate or sound.subtype not in _ENCODINGS or not 0 < sound.frames <= most:
                raise NotLossless("another rate, encoding or length")
            yield from _blocks(sound)
            if sound.format == "FLAC" and file.read(1):
                raise NotLossless("longer than its header says")
    except (OSError, soundfile.SoundFileError) as error:
        raise NotLossless(str(error)) from None


def is_rifx(file: BinaryIO) -> bool:
    """Whether an open file is a big-endian WAV, whose samples FFmpeg takes for little-endian ones."""
    head = file.read(12)
    file.seek(0)
    return head[:4] == b"RIFX" and head[8:] == b"WAVE"


def rifx(file: BinaryIO, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks [S, channels] of float32 samples of a big-endian WAV, and their rate. Raises MediaError."""
    try:
        with soundfile.SoundFile(file, "r") as sound:
            for block in _blocks(sound):
                yield block, sound.samplerate
    except (OSError, soundfile.SoundFileError, NotLossless):
        raise MediaError(f"{name}: a big-endian WAV (RIFX) that is damaged; copy it again") from None


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    left = sound.frames
    while left:
        block = sound.read(max(1, _BLOCK // sound.channels), "float32", always_2d=True)
        if not len(block):
            raise NotLossless("shorter than its header says")
        left -= len(block)
        yield block


def in_one(file: BinaryIO) -> BinaryIO:
    """The same file; a WAV whose samples are in several chunks as a temporary one that has them in one.

    Libraries read the first of them and say nothing.
    """
    head = file.read(12)
    chunks = _data_chunks(file) if head[:4] == b"RIFF" and head[8:] == b"WAVE" else []
    file.seek(0)
    if len(chunks) < 2:
        return file
    joined, size = tempfile.TemporaryFile(), min(sum(length for _, length in chunks), 0xFFFFFFFF)
    head = file.read(chunks[0][0])
    joined.write(head[:4] + bytes(4) + head[8:-4] + size.to_bytes(4, "little"))
    for start, length in chunks:
        file.seek(start)
        while length and (block := file.read(min(length, _BLOCK))):
            joined.write(block)
            length -= len(block)
    joined.seek(0)
    return joined


def _data_chunks(file: BinaryIO) -> list[tuple[int, int]]:
    """Where in a WAV file samples begin, and how many bytes of them. `file` stands behind `WAVE`."""
    chunks = []
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            chunks.append((file.tell(), size))
        file.seek(size + size % 2, os.SEEK_CUR)
    return chunks
