"""What the frozen layers of a speech encoder make of a manifest's speech, in several versions, computed once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from xllm.distortion import DISTORTION, distort
from xllm.errors import MediaError, XLLMError
from xllm.features import FRAME_SHIFT, seeded, speech_features
from xllm.media import load_audio
from xllm.speech.whisper import SILENCE, STRIDE, WINDOW, WhisperEncoder
from xllm.training.cache import Cache
from xllm.training.fbanks import Progress, stamp

TOGETHER = 8  # utterances of like length in one batch
MASK, MASKS = 0.16, 2  # seconds that a mask hides at most, about a character, and how many there are


class States:
    """States [W, D] of the encoder at a depth up to which it is frozen, by item number and version.

    Version 0 is the recording, the others are distorted (`xllm.distortion`). Where layers are left that attend to the
    states, none may be longer than Whisper's window.
    """

    def __init__(
        self,
        paths: Sequence[str | None],
        encoder: WhisperEncoder,
        depth: int,
        key: str,
        versions: int,
        seed: int,
        cache: Cache,
        progress: Progress | None = None,
    ):
        """`key` stands for the weights up to `depth`."""
        self.seed, self.depth = seed, depth
        self.rate = encoder.rate if self.depth == encoder.whole else STRIDE  # fbank frames a state
        self.files = list(dict.fromkeys(path for path in paths if path))
        row = {path: number for number, path in enumerate(self.files)}
        self._row = {item: row[path] for item, path in enumerate(paths) if path}
        stamps = [stamp(path) for path in self.files]
        made_of = {"what": "states", "frozen": key, "depth": self.depth}
        made_of["encoder"] = encoder.config.model_dump(mode="json", exclude={"pretrained"})
        self.versions = [
            cache.ragged(
                made_of | {"version": version and (version, seed, DISTORTION)},
                stamps,
                lambda rows, version=version: self._compute(encoder, rows, version),
                lambda done, total, version=version: (
                    progress and progress(f"encoder states, version {version}", done, total)
                ),
            )
            for version in range(versions)
        ]

    @torch.no_grad()
    def _compute(self, encoder: WhisperEncoder, rows: list[int], version: int) -> Iterator[Tensor | Exception]:
        longest = WINDOW - SILENCE if self.depth < encoder.whole else float("inf")
        found: dict[int, Tensor | Exception] = {}
        for row in rows:
            try:
                wave = load_audio(self.files[row])
                wave = distort(wave, seeded(self.seed, version, row)) if version else wave
                found[row] = speech_features(wave, encoder.config)
                if len(found[row]) > longest:
                    seconds = f"{len(found[row]) * FRAME_SHIFT:.1f} s{' at another speed' if version else ''}"
                    raise MediaError(f"{seconds}, upper layers of Whisper train on {longest * FRAME_SHIFT} s at most")
            except XLLMError as error:
                found[row] = error
        good = sorted((r for r in rows if isinstance(found[r], Tensor)), key=lambda r: len(found[r]))
        device = next(encoder.parameters()).device
        for start in range(0, len(good), TOGETHER):
            batch = [found[row] for row in good[start : start + TOGETHER]]
            lengths = torch.tensor([len(x) for x in batch], device=device)
            states, sizes = encoder.lower(pad_sequence(batch, batch_first=True).to(device), lengths, self.depth)
            for row, state, size in zip(good[start : start + TOGETHER], states, sizes.tolist(), strict=True):
                found[row] = state[:size]
        yield from (found[row] for row in rows)

    def failed(self, item: int) -> str | None:
        """Why the item's audio cannot be used, in one version or another."""
        row = self._row.get(item)
        return next((version.failed[row] for version in self.versions if row in version.failed), None)

    def length(self, item: int) -> int:
        """Fbank frames of the item as it was recorded, in whole states."""
        return self.versions[0].length(self._row[item]) * self.rate

    def version(self, number: int, item: int) -> Tensor:
        """The item's states in one version."""
        return self.versions[number][self._row[item]]

    def load(self, item: int, generator: torch.Generator | None) -> Tensor:
        """The item's states; with a generator those of a version that is drawn, a part of them hidden."""
        if generator is None:
            return self.version(0, item)
        states = self.version(int(torch.randint(len(self.versions), (), generator=generator)), item)
        widest = round(MASK / (FRAME_SHIFT * self.rate))
        for _ in range(MASKS):
            width = int(torch.randint(0, widest + 1, (), generator=generator))
            start = int(torch.randint(0, max(1, len(states) - width + 1), (), generator=generator))
            states[start : start + width] = 0.0
        return states
