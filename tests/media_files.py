"""Media made on the fly for the tests: any container, rate, layout and content, and the broken ones."""

import wave as wave_module
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

CODECS = {
    ".wav": "pcm_s16le",
    ".mp3": "libmp3lame",
    ".m4a": "aac",
    ".flac": "flac",
    ".ogg": "libopus",
    ".opus": "libopus",
    ".webm": "libopus",
    ".mp4": "aac",
    ".mkv": "pcm_s16le",
}
FILM_CODECS = {
    ".mp4": "libx264",
    ".mov": "mpeg4",
    ".mkv": "libx264",
    ".webm": "libvpx",
    ".avi": "mpeg4",
    ".flv": "flv",
    ".ts": "libx264",
}


def tone(seconds: float, rate: int = 16000, pitch: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A sine [S], float32."""
    return (level * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def write_audio(
    path: Path, wave: np.ndarray, rate: int = 16000, layout: str = "mono", codec: str | None = None
) -> Path:
    """Encode `wave` [S] (every channel the same) or [channels, S] into the container of the suffix."""
    channels = np.atleast_2d(wave)
    count = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    channels = np.ascontiguousarray(np.broadcast_to(channels, (count, channels.shape[1])), dtype=np.float32)
    if not channels.size:  # FFmpeg writes no file at all without a packet
        with wave_module.open(str(path), "wb") as out:
            out.setnchannels(count), out.setsampwidth(2), out.setframerate(rate)
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec or CODECS[path.suffix], rate=rate, layout=layout)
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 0)
        frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
        frame.sample_rate = rate
        for out in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(out))
        container.mux(stream.encode(None))
    return path


def write_silent_video(path: Path) -> Path:
    """A clip without an audio track."""
    return write_film(path, np.zeros((5, 32, 32, 3), np.uint8), codec="mpeg4")


def shades(count: int, size: tuple[int, int] = (32, 48), last: int = 240) -> Iterator[np.ndarray]:
    """Grey frames [H, W, 3] of `size` (H, W) that grow from black to `last`: brightness says the number."""
    for i in range(count):
        yield np.full((*size, 3), round(last * i / max(count - 1, 1)), np.uint8)


def write_film(
    path: Path, frames: Iterable[np.ndarray], rate: int = 10, codec: str | None = None, gap: int = 12, **muxer: str
) -> Path:
    """Encode frames [H, W, 3] with a key frame every `gap` into the container of the suffix."""
    with av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(codec or FILM_CODECS[path.suffix], rate=rate)
        stream.options = {"g": str(gap), "sc_threshold": "0", "preset": "ultrafast", "deadline": "realtime"}
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_animation(path: Path, frames: Iterable[np.ndarray]) -> Path:
    """Frames [H, W, 3 or 4] as an animated GIF, WebP or PNG, 10 a second."""
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others, duration=100, lossless=True, kmax=1)  # else WebP loses alpha
    return path


def write_tracks(
    path: Path,
    *tracks: Iterable[tuple[np.ndarray, float]],
    codec: str | None = None,
    rate: int = 48000,
    frames: Iterable[np.ndarray] = (),
    start: float = 0.0,
    form: str | None = None,
) -> Path:
    """Audio tracks, each of stretches (wave [S] at 16 kHz, second at which it begins), and a video from `start` on.

    The video has 10 `frames` [H, W, 3] a second; `codec` is that of the sound.
    """
    packets, frames, video = [], list(frames), None
    with av.open(str(path), "w", format=form) as container:
        if frames:
            video = container.add_stream(FILM_CODECS.get(path.suffix, "mpeg4"), rate=10)
        streams = [container.add_stream(codec or CODECS[path.suffix], rate=rate, layout="mono") for _ in tracks]
        for number, pixels in enumerate(frames):
            if number == 0:
                video.height, video.width = pixels.shape[:2]
                video.pix_fmt, video.codec_context.time_base = "yuv420p", Fraction(1, 1000)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(1000 * start) + 100 * number, Fraction(1, 1000)
            packets += video.encode(frame)
        packets += video.encode(None) if video else []
        for stream, track in zip(streams, tracks, strict=True):
            stream.codec_context.open()
            for wave, begin in track:
                size = stream.frame_size or 1024
                resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=size)
                frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
                frame.sample_rate, given = 16000, 0
                for out in [*resampler.resample(frame), *resampler.resample(None)]:
                    out.pts, out.time_base = round(begin * rate) + given, Fraction(1, rate)
                    given += out.samples
                    packets += stream.encode(out) if out.samples == size or not stream.frame_size else []
            packets += stream.encode(None)
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def put_contents(file, queue) -> None:
    """What a process that was spawned reads of an open file: its target must be importable there."""
    queue.put((file.name, file.read()))
