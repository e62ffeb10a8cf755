"""Fbank of a manifest's speech at several speeds, computed when asked for or once for all."""

import os
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from xllm.config import SpeechEncoderConfig
from xllm.errors import XLLMError
from xllm.features import speech_features
from xllm.media import load_audio
from xllm.members import file_of
from xllm.training.cache import Cache, Ragged

Progress = Callable[[str, int, int], None]  # what is computed, how many are done, of how many


def stamp(path: str) -> str:
    """A file's name, size and time: another one when it changes."""
    file = file_of(path)
    return f"{path} {os.stat(file).st_size} {os.stat(file).st_mtime_ns}" if os.path.exists(file) else path


class Fbanks:
    """What `encoder` hears, [F, mels], by item number; items without a path have none."""

    def __init__(
        self,
        paths: Sequence[str | None],
        encoder: SpeechEncoderConfig,
        speeds: Sequence[float],
        cache: Cache | None = None,
        progress: Progress | None = None,
    ):
        """With `cache`, features of all `speeds` are computed now, unless they are there already."""
        self.paths, self.encoder = paths, encoder
        files = list(dict.fromkeys(path for path in paths if path))  # a manifest may stand in a recipe twice
        row = {path: number for number, path in enumerate(files)}
        self._row = {item: row[path] for item, path in enumerate(paths) if path}
        self._caches: dict[float, Ragged] = {}
        stamps = [stamp(path) for path in files] if cache else []
        for speed in speeds if cache is not None else ():
            self._caches[speed] = cache.ragged(
                {"what": "fbank", "form": encoder.form, "mels": encoder.mels, "speed": speed},
                stamps,
                lambda rows, speed=speed: self._compute([files[row] for row in rows], speed),
                lambda done, total, speed=speed: progress and progress(f"features at speed {speed}", done, total),
            )

    def _compute(self, files: list[str], speed: float) -> Iterator[Tensor | Exception]:
        for path in files:
            try:
                yield speech_features(load_audio(path), self.encoder, speed)
            except XLLMError as error:
                yield error

    def failed(self, item: int) -> str | None:
        """Why the item's audio cannot be used, as far as that is known before it is loaded."""
        return next((c.failed.get(self._row[item]) for c in self._caches.values() if item in self._row), None)

    def length(self, item: int) -> int | None:
        """Frames at the first speed, if they have been computed."""
        return next((cache.length(self._row[item]) for cache in self._caches.values()), None)

    def load(self, item: int, speed: float = 1.0) -> Tensor:
        """The item's features; raises MediaError when its audio cannot be used."""
        if speed in self._caches:
            return self._caches[speed][self._row[item]]
        return speech_features(load_audio(self.paths[item]), self.encoder, speed)
