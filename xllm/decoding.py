"""An open container's sound to blocks of samples at 16 kHz, by FFmpeg: bad packets are skipped, times are kept."""

from collections.abc import Iterable, Iterator

import av
import numpy as np

from xllm.errors import MediaError
from xllm.timeline import Timeline

SAMPLE_RATE = 16_000  # Hz
MIN_RATE, MAX_RATE = 4_000, 768_000  # Hz: below, a small file is hours long; above, nothing is recorded
_GUESSED = ("aac", "amr")  # formats that state no length; FFmpeg multiplies the first frames' bit rate
_COUNTED = ("aac", "amr", "mp3", "ac3", "eac3")  # formats without time stamps
_GAPLESS = ("ogg", "flac")  # formats whose time stamps count samples
_CARELESS = ("wav", "w64")  # formats that state what was not known yet when writing began
_MORE = 1.02  # seconds of an MP3 file by what its bit rate makes of its size: more is not rounding
_TAGS = (b"ID3", b"TAG", b"APE")  # how what is no sound begins, between frames of joined files
_SILENCE = 1 << 16  # samples given at once
_RETRIES = 10  # of reading, without success
_HOLE = 256  # bytes between two Matroska packets that are more than headers


def check_rate(rate: int, name: str) -> None:
    """Raises MediaError for a sampling rate at which nobody records; 0 is one that is not known yet."""
    if rate and not MIN_RATE <= rate <= MAX_RATE:
        raise MediaError(f"{name}: {rate} samples a second, {MIN_RATE} to {MAX_RATE} are read; export it again")


def stated_seconds(container: av.container.InputContainer) -> float | None:
    """How long the header says that a file is; None where it does not say."""
    known = container.duration and container.format.name not in _GUESSED
    return container.duration / av.time_base if known else None


def _promised_seconds(container: av.container.InputContainer, track: av.AudioStream) -> float | None:
    """How long a file must be if it is whole; None where that is not known."""
    seconds, kind = stated_seconds(container), container.format.name
    if kind == "mp3" and seconds and seconds * (track.codec_context.bit_rate or 0) <= _MORE * 8 * container.size:
        return None  # perhaps the same guess, and not an Info tag's number of frames
    return None if kind in _CARELESS else seconds


class _Resampler:
    """Frames of any rate and format to float32 blocks [S, channels] at 16 kHz.

    Channels stay apart: FFmpeg's own mix to mono amplifies two equal channels by 1.414 in float formats (FACTS 9).
    They are interleaved, since PyAV crashes on 8 planes and more.
    """

    def __init__(self, name: str):
        self.name, self.setup, self.inner = name, None, None
        self.given = 0  # samples

    def __call__(self, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
        """What a frame adds; what is left in the resampler for None. Raises MediaError."""
        setup = frame and (frame.format.name, frame.layout.name, frame.sample_rate)
        if setup != self.setup:  # chained files may change in the middle
            if self.inner is not None:
                yield from self._blocks(self.inner.resample(None))
            self.inner, self.setup = None, setup
            if frame is not None:
                check_rate(frame.sample_rate, self.name)
                self.inner = av.AudioResampler(format="flt", layout=frame.layout, rate=SAMPLE_RATE)
        if frame is not None:
            yield from self._blocks(self.inner.resample(frame))

    def _blocks(self, frames: Iterable[av.AudioFrame]) -> Iterator[np.ndarray]:
        for frame in frames:
            self.given += frame.samples
            yield frame.to_ndarray().reshape(-1, frame.layout.nb_channels)

    def silence(self, until: float) -> Iterator[np.ndarray]:
        """Blocks [S, 1] of silence, so that the next frame comes at `until` seconds."""
        yield from self(None)
        while (lacking := round(until * SAMPLE_RATE) - self.given) > 0:
            self.given += min(lacking, _SILENCE)
            yield np.zeros((min(lacking, _SILENCE), 1), np.float32)


def resampled(blocks: Iterable[tuple[np.ndarray, int]], name: str) -> Iterator[np.ndarray]:
    """Blocks [S, channels] of any rate, given beside each, at 16 kHz. Raises MediaError."""
    resampler = _Resampler(name)
    for block, rate in blocks:
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout=f"{block.shape[1]} channels")
        frame.sample_rate = rate
        yield from resampler(frame)
    yield from resampler(None)


def decode(
    container: av.container.InputContainer, track: av.AudioStream, name: str, line: Timeline
) -> Iterator[np.ndarray]:
    """Blocks [S, channels] of float32 samples at 16 kHz from where the file begins to play; `line` learns what is lost.

    Raises MediaError.
    """
    resampler = _Resampler(name)
    for frame in _frames(container, track, line):
        if frame.sample_rate:
            pause = line.place(frame.time, frame.samples / frame.sample_rate)
            if pause:
                yield from resampler.silence(line.position - frame.samples / frame.sample_rate)
            if pause is not None:
                yield from resampler(frame)
    if not line.position and line.damaged:
        raise MediaError(f"{name}: damaged, nothing could be decoded; copy it again")
    yield from resampler(None)
    line.finish(_promised_seconds(container, track))


def timeline(container: av.container.InputContainer) -> Timeline:
    """Of a container that has just been opened."""
    origin, kind = container.start_time, container.format.name
    return Timeline(None if origin is None else origin / av.time_base, kind in _COUNTED, kind in _GAPLESS)


def _frames(container: av.container.InputContainer, track: av.AudioStream, line: Timeline) -> Iterator[av.AudioFrame]:
    """What can be decoded of a track."""
    size = seconds = 0.0  # of what has been decoded
    for packet in _packets(container, line):
        if packet.stream_index != track.index:
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError:  # of any kind, where bytes mean nothing
            if bytes(packet)[:3] not in _TAGS:
                known = line.counted and size
                line.damage(packet.size * seconds / size if known else float((packet.duration or 0) * packet.time_base))
            continue
        size += packet.size
        for frame in frames:
            seconds += frame.samples / (frame.sample_rate or 1)
            yield frame


def _packets(container: av.container.InputContainer, line: Timeline) -> Iterator[av.Packet]:
    """Packets of all tracks; where reading fails, it goes on behind that place."""
    failures, end = 0, None
    matroska = "matroska" in container.format.name
    while failures < _RETRIES:
        try:
            for packet in container.demux():
                failures = 0
                if packet.pts is not None:
                    line.reach(float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.is_corrupt or (matroska and end and packet.pos and packet.pos > end + _HOLE):
                    line.hole()
                if packet.pos is not None:
                    end = max(end or 0, packet.pos + packet.size)
                yield packet
            return
        except av.FFmpegError:
            failures += 1
            line.damage()
