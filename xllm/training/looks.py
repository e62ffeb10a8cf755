"""Tokens of pictures and films through a frozen encoder, computed once: what is not augmented never changes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from xllm.errors import XLLMError
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.training.cache import Cache
from xllm.training.fbanks import Progress, stamp


class Looks:
    """Tokens [T, N, D] of a modality's files, by path."""

    def __init__(
        self, modality: str, paths: Sequence[str], model: XLLM, cache: Cache, key: str, progress: Progress | None = None
    ):
        """They are kept in `cache`; `key` stands for the encoder's weights. What cannot be read is in `failed`."""
        self.modality, self.model = modality, model
        files = list(dict.fromkeys(paths))
        self._row = {path: number for number, path in enumerate(files)}
        seen = model.config.model_dump(mode="json", include={"vision", "frames"})
        self._cache = cache.ragged(
            {"what": modality, "frozen": key, "config": seen},
            [stamp(path) for path in files],
            lambda rows: (
                x if isinstance(x, Exception) else x.flatten(1) for x in self._compute([files[r] for r in rows])
            ),
            lambda done, total: progress and progress(f"tokens of each {modality}", done, total),
        )
        self.failed = {files[row]: reason for row, reason in self._cache.failed.items()}
        good = [path for path in files if path not in self.failed][:1]
        self._shape = next(self._compute(good), None).shape[1:] if good else ()

    def _compute(self, files: list[str]) -> Iterator[Tensor | Exception]:
        features: dict[str, Tensor | Exception] = {}
        for path in files:
            try:
                features[path] = MODALITIES[self.modality].load(Path(path), self.model.config, None)
            except XLLMError as error:
                features[path] = error
        loaded = [{self.modality: [x]} for x in features.values() if not isinstance(x, Exception)]
        tokens = iter(self.model.encode(loaded)) if loaded else iter(())
        for value in features.values():
            yield value if isinstance(value, Exception) else next(tokens)[self.modality][0]

    def __getitem__(self, path: str) -> Tensor:
        return self._cache[self._row[path]].unflatten(1, self._shape)
