"""Tokens of pictures and films through a frozen encoder, computed once: what is not augmented never changes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from xllm.config import ModelConfig
from xllm.errors import XLLMError
from xllm.modalities import MODALITIES
from xllm.training.cache import Cache
from xllm.training.fbanks import Progress, stamp


class Looks:
    """Tokens [T, N, D] of a modality's files, by path."""

    def __init__(
        self,
        modality: str,
        paths: Sequence[str],
        config: ModelConfig,
        encoder: nn.Module,
        cache: Cache,
        key: str,
        progress: Progress | None = None,
    ):
        """Read as `config` says; kept in `cache`, where `key` stands for the encoder's weights.

        What cannot be read is in `failed`.
        """
        self.modality, self.config, self.encoder = modality, config, encoder
        files = list(dict.fromkeys(paths))
        self._row = {path: number for number, path in enumerate(files)}
        seen = config.model_dump(mode="json", include={"vision", "frames"})
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
        row = MODALITIES[self.modality]
        features: dict[str, Tensor | Exception] = {}
        for path in files:
            try:
                features[path] = row.load(Path(path), self.config, None)
            except XLLMError as error:
                features[path] = error
        loaded = [x for x in features.values() if not isinstance(x, Exception)]
        with torch.no_grad():
            tokens = iter(row.tokens(self.encoder, loaded) if loaded else ())
        for value in features.values():
            yield value if isinstance(value, Exception) else next(tokens)

    def __getitem__(self, path: str) -> Tensor:
        return self._cache[self._row[path]].unflatten(1, self._shape)
