"""What fits is kept: pictures and texts that CLIP finds alike, sides, aspect, durations, lengths; and no duplicates."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from pydantic import Field

from xllm.config import Config
from xllm.errors import MediaError
from xllm.steps.rows import Dropped, media_of
from xllm.steps.run import Made, Row
from xllm.trust import loading

READERS = 4  # threads that decode pictures: Pillow lets go of Python's lock


class Filter(Config):
    """Rows within all of the limits that are given; what a row does not have, a picture say, is not looked at."""

    clip: str | None = Field(None, description="CLIP or Chinese-CLIP, hub name or folder; none: texts may say anything")
    min_similarity: float = Field(
        0.45, ge=-1, le=1, description="cosine of picture and text; the paper's for Wukong (A.1)"
    )
    text: str = Field("response", description="key that is compared with the picture")
    min_side: int | None = Field(None, gt=0, description="shorter side of a picture, in pixels")
    max_aspect: float | None = Field(None, ge=1, description="longer side of a picture over its shorter one")
    min_seconds: float | None = Field(None, ge=0, description="of speech or film")
    max_seconds: float | None = Field(None, gt=0, description="of speech or film")
    min_characters: int | None = Field(None, ge=0, description="of the response")
    max_characters: int | None = Field(None, gt=0, description="of the response")
    unique: tuple[str, ...] = Field((), description="keys by which the first of equal rows is kept")
    batch_size: int = Field(64, gt=0, description="pictures at once")
    device: str = "auto"

    def __call__(self, rows: list[Row]) -> Made:
        made: Made = [self._unfit(row) or row for row in rows]
        if self.clip is not None:
            left = [at for at, row in enumerate(made) if not isinstance(row, Dropped) and row.get("image")]
            for start in range(0, len(left), self.batch_size):
                batch = left[start : start + self.batch_size]
                for at, row in zip(batch, self._alike([made[at] for at in batch]), strict=True):
                    made[at] = row
        return made

    def _unfit(self, row: Row) -> Dropped | None:
        """What the words and the headers of the media say against a row."""
        length = len(row.get("response") or "")
        if reason := _outside(length, self.min_characters, self.max_characters, "characters"):
            return Dropped(row["id"], reason, f"{length} characters")
        try:
            for kind, path in media_of(row):
                if kind == "image" and (self.min_side or self.max_aspect):
                    short, long = sorted(_size(path))
                    if short < (self.min_side or 0):
                        return Dropped(row["id"], "side too small", f"{short} x {long}")
                    if self.max_aspect and long > self.max_aspect * short:
                        return Dropped(row["id"], "too elongated", f"{short} x {long}")
                elif kind != "image" and (self.min_seconds, self.max_seconds) != (None, None):
                    seconds = _seconds(kind, path, row)
                    if reason := _outside(seconds, self.min_seconds, self.max_seconds, "seconds"):
                        return Dropped(row["id"], reason, f"{seconds:.2f} s")
        except MediaError as error:
            return Dropped(row["id"], "damaged", str(error), failed=True)
        return None

    def _alike(self, rows: list[Row]) -> Made:
        """Rows with their `similarity`, those below the limit dropped. One batch."""
        import torch

        processor, model = self._clip
        with ThreadPoolExecutor(READERS) as readers:
            images = list(readers.map(_open, [row["image"] for row in rows]))
        made: Made = [
            Dropped(row["id"], "damaged", str(image), failed=True) if isinstance(image, MediaError) else row
            for row, image in zip(rows, images, strict=True)
        ]
        whole = [at for at, row in enumerate(made) if not isinstance(row, Dropped)]
        if not whole:
            return made
        inputs = processor(
            text=[str(rows[at].get(self.text) or "") for at in whole],
            images=[images[at] for at in whole],
            return_tensors="pt",
            padding=True,
            truncation=True,
        ).to(model.device)
        with torch.inference_mode():
            out = model(**inputs)
        cosines = torch.cosine_similarity(out.image_embeds.float(), out.text_embeds.float()).tolist()
        for at, cosine in zip(whole, cosines, strict=True):
            alike = cosine >= self.min_similarity
            value = round(cosine, 4)
            made[at] = rows[at] | {"similarity": value} if alike else Dropped(rows[at]["id"], "dissimilar", f"{value}")
        return made

    @cached_property
    def _clip(self) -> tuple[Any, Any]:
        """Processor and model. Raises ConfigError when they cannot be loaded."""
        from transformers import AutoModel, AutoProcessor

        from xllm.device import resolve_device

        with loading(f"CLIP model {self.clip!r}"):
            processor = AutoProcessor.from_pretrained(self.clip, trust_remote_code=False)
            model = AutoModel.from_pretrained(self.clip, trust_remote_code=False, weights_only=True)
        return processor, model.to(resolve_device(self.device)).eval()


def unique_key(keys: Sequence[str]) -> Callable[[Row], str | None]:
    """What rows that are the same in these keys share; None for a row that has none of them."""

    def key(row: Row) -> str | None:
        values = [row.get(name) for name in keys]
        return json.dumps(values, ensure_ascii=False) if any(value is not None for value in values) else None

    return key


def _outside(value: float, least: float | None, most: float | None, what: str) -> str | None:
    if least is not None and value < least:
        return f"too few {what}"
    return f"too many {what}" if most is not None and value > most else None


def _size(path: str) -> tuple[int, int]:
    from xllm.pictures import open_picture

    with open_picture(path) as image:
        return image.size


def _seconds(kind: str, path: str, row: Row) -> float:
    """Of speech, as the row has it or the file; of a film, as its header says."""
    from xllm.media import open_media, probe_audio

    if kind == "speech":
        return row["duration"] if row.get("duration") is not None else probe_audio(path)
    with open_media(path, kind) as film:
        return (film.duration or 0) / 1e6  # FFmpeg's time base


def _open(paths: str | list[str]) -> Any:
    """The row's first picture for CLIP's processor, or why there is none."""
    from PIL import Image

    from xllm.pictures import load_picture

    try:
        pixels = load_picture(paths if isinstance(paths, str) else paths[0])
    except MediaError as error:
        return error
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
