"""Media made on the fly for the tests: any container, rate, layout and content, and the broken ones."""

import wave as wave_module
from pathlib import Path

import av
import numpy as np

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
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return path
