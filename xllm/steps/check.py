"""Every file of a manifest opened to its end: what is broken, silent, empty or too long is found before training is."""

import os

from pydantic import Field

from xllm.config import Config
from xllm.errors import MediaError
from xllm.members import file_of, open_any
from xllm.steps.rows import Dropped, media_of
from xllm.steps.run import Made, Row

SILENCE = 1e-4  # of full scale, -80 dB: the loudest sample of a recording of nothing
FRAMES = 8  # of a film that are looked at
WHOLE = 0.9  # of the stated bytes of a WAV; fewer are a damaged file's
PADDING = 0.1  # seconds that may lack
ENDLESS = 0x7FFF0000  # bytes that a WAV claims from here on are what writers say who do not know


class Check(Config):
    """Rows whose media can be read and whose texts say something; speech gets its measured `duration`."""

    min_seconds: float = Field(0.1, ge=0, description="shortest speech")
    max_seconds: float = Field(30.0, gt=0, description="longest speech: fbank frames of a batch are limited")
    max_characters: int | None = Field(None, gt=0, description="longest response")

    def __call__(self, rows: list[Row]) -> Made:
        return [self._check(row) for row in rows]

    def _check(self, row: Row) -> Row | Dropped:
        words = row.get("response")
        if (words is None and not row.get("history")) or (words is not None and not words.strip()):
            return Dropped(row["id"], "no words")
        if self.max_characters is not None and len(words or "") > self.max_characters:
            return Dropped(row["id"], "too many characters", str(len(words)))
        seconds = None
        for kind, path in media_of(row):
            if not os.path.exists(path) and not os.path.exists(file_of(path)):
                return Dropped(row["id"], "no such file", path, failed=True)
            try:
                if kind == "speech":
                    seconds, loudest = _listen(path)
                else:
                    _look(kind, path)
            except MediaError as error:
                return Dropped(row["id"], "damaged", str(error), failed=True)
        if seconds is None:
            return row
        if not self.min_seconds <= seconds <= self.max_seconds:
            return Dropped(row["id"], "too long" if seconds > self.max_seconds else "too short", f"{seconds:.2f} s")
        return row | {"duration": round(seconds, 3)} if loudest > SILENCE else Dropped(row["id"], "silent")


def _listen(path: str) -> tuple[float, float]:
    """Seconds and the loudest sample of the whole sound. Raises MediaError, also where a good part of it is lost."""
    from xllm.media import SAMPLE_RATE, stream_audio
    from xllm.timeline import describe

    count, loudest, lost = 0, 0.0, []
    for chunk in stream_audio(path, lost=lost):
        count += len(chunk)
        loudest = max(loudest, float(chunk.abs().max()))
    if lost:
        raise MediaError(f"{path}: {describe(lost)}")
    seconds = count / SAMPLE_RATE
    stated = _stated(path, seconds)
    if seconds < WHOLE * stated - PADDING:
        raise MediaError(f"{path}: only {seconds:.2f} of {stated:.2f} s can be decoded")
    return seconds, loudest


def _stated(path: str, seconds: float) -> float:
    """How long the header of a WAV says that a sound is; `seconds`, what could be decoded, where it does not say.

    Players take the end of the file for the end of the sound, since many writers do not know the length.
    """
    with open_any(path) as file:
        start, size = file.read(8), file.seek(0, os.SEEK_END)
    claimed = 8 + int.from_bytes(start[4:], "little")
    return seconds * claimed / size if start[:4] == b"RIFF" and size < claimed < ENDLESS else seconds


def _look(kind: str, path: str) -> None:
    from xllm.films import load_frames
    from xllm.pictures import load_picture
    from xllm.vision.standins import is_stand_in, load_stand_in

    if kind == "video":
        load_frames(path, FRAMES)
    else:
        load_stand_in(path) if is_stand_in(path) else load_picture(path)
