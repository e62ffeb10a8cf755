"""What a stage feeds its model: one class per kind of example, each turning a manifest's rows into batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from xllm.config import IGNORE
from xllm.errors import ManifestError, XLLMError
from xllm.features import SPEEDS, seeded, spec_augment
from xllm.manifest import read_manifest
from xllm.media import probe_audio
from xllm.prompt import INSTRUCTIONS, Prompt
from xllm.speech.units import UNKNOWN, Units
from xllm.text import normalize
from xllm.training.cache import cached
from xllm.training.fbanks import Fbanks, Progress, fingerprint

FRAMES_PER_TOKEN = 8  # what a token of text costs beside speech: one encoder frame, the least CIF needs for it
DICTATION = 0.8  # share of stage 0's samples that are dictated, where their reading is known
READING_NOISE = 0.1  # share of syllables replaced in the dictation examples of stage 0


def pad_ids(rows: list[list[int]], value: int) -> Tensor:
    """Right-padded [B, L] int64."""
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True, padding_value=value)


class Examples(ABC):
    """Rows of manifests as examples of one stage. `load` may draw from its generator; without one it is exact."""

    def __init__(self, manifests: tuple[Path, ...]):
        self.rows = read_manifest(*manifests)
        self.flat_start = False  # the trainer turns it on for a stage's first epochs

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, item: int) -> str:
        """The sample's id, for reports."""
        return self.rows[item]["id"]

    def kind(self, item: int) -> int:
        """Examples of different kinds never share a batch."""
        return 0

    @abstractmethod
    def unusable(self, item: int) -> str | None:
        """Why the sample cannot be trained on, or None."""

    @abstractmethod
    def cost(self, item: int) -> int:
        """Length that padding goes by: fbank frames or tokens."""

    @abstractmethod
    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        """One example; raises XLLMError when its media cannot be used."""

    @abstractmethod
    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Examples of one kind to a batch."""


class TextExamples(Examples):
    """Stage 0: plain text, or text dictated in syllables inside the speech slot of the prompt.

    A large language model knows how Chinese is read; a small one has to be told. Most samples that have a
    reading become the prompt of speech recognition with the reading, partly misheard, in place of speech.
    """

    def __init__(self, manifests: tuple[Path, ...], prompt: Prompt, syllables: tuple[str, ...]):
        super().__init__(manifests)
        self.prompt, self.syllables = prompt, syllables

    def unusable(self, item: int) -> str | None:
        return None if self.rows[item]["response"] else "no response"

    def cost(self, item: int) -> int:
        return 2 * len(self.rows[item]["response"]) + 14  # as dictation: reading, template, answer

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        dictated = row["reading"] and (torch.rand((), generator=generator) < DICTATION if generator else item % 2)
        if not dictated:
            ids = self.prompt.text(row["response"])
            return {"ids": ids, "targets": ids}
        heard = row["reading"].split()
        if generator:
            for place in (torch.rand(len(heard), generator=generator) < READING_NOISE).nonzero().flatten().tolist():
                heard[place] = self.syllables[int(torch.randint(len(self.syllables), (), generator=generator))]
        spoken = "".join(f"[{syllable}]" for syllable in heard)
        prompt, answer = self.prompt.ids(INSTRUCTIONS["asr"], {"speech": spoken}, normalize(row["response"]))
        return {"ids": prompt + answer, "targets": [IGNORE] * len(prompt) + answer}

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`ids` and `targets` [B, L] right-padded, `lengths` [B]; targets are IGNORE where no loss is due."""
        return {
            "ids": pad_ids([item["ids"] for item in items], 0),
            "targets": pad_ids([item["targets"] for item in items], IGNORE),
            "lengths": torch.tensor([len(item["ids"]) for item in items]),
        }


class SpeechExamples(Examples):
    """Stage 1: fbank and characters; rows without speech train the decoder alone from their readings."""

    def __init__(
        self,
        manifests: tuple[Path, ...],
        units: Units,
        mels: int,
        augment: bool,
        cache: Path | None = None,
        progress: Progress | None = None,
    ):
        super().__init__(manifests)
        self.units, self.augment = units, augment
        self.speech = self.rows["speech"][:]
        self.fbanks = Fbanks(self.speech, mels, SPEEDS if augment else (1.0,), cache, progress)

    def kind(self, item: int) -> int:
        return 0 if self.speech[item] else 1

    def unusable(self, item: int) -> str | None:
        row = self.rows[item]
        if reason := self.fbanks.failed(item):
            return reason
        characters = self.units.encode(row["response"] or "")
        if not characters:
            return "the response has no characters"
        if self.units.syllables and len((row["reading"] or "").split()) != len(characters):
            return "the reading does not have one syllable per character"
        if not self.speech[item] and UNKNOWN in characters:
            return "text with characters outside the units"
        return None

    def cost(self, item: int) -> int:
        if not self.speech[item]:
            return FRAMES_PER_TOKEN * len(self.rows[item]["response"])
        return self.fbanks.length(item) or int(
            100 * (self.rows[item]["duration"] or probe_audio(Path(self.speech[item])))
        )

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        example = {"characters": self.units.encode(row["response"])}
        if self.units.syllables:
            example["syllables"] = self.units.encode_reading(row["reading"])
        if not self.speech[item]:
            return example
        augment = generator is not None and self.augment and not self.flat_start
        speed = SPEEDS[int(torch.randint(len(SPEEDS), (), generator=generator))] if augment else 1.0
        features = self.fbanks.load(item, speed)
        example["features"] = spec_augment(features, generator) if augment else features
        return example

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """The arguments of `Recognizer.losses`."""
        batch = {
            "characters": pad_ids([item["characters"] for item in items], IGNORE),
            "token_lengths": torch.tensor([len(item["characters"]) for item in items]),
        }
        if "syllables" in items[0]:
            batch["syllables"] = pad_ids([item["syllables"] for item in items], IGNORE)
        if "features" in items[0]:
            batch["features"] = pad_sequence([item["features"] for item in items], batch_first=True)
            batch["feature_lengths"] = torch.tensor([item["features"].shape[0] for item in items])
            batch["flat_start"] = self.flat_start
        return batch


class TokenExamples(Examples):
    """Stage 2, speech: token-level CIF vectors, computed once by the frozen recogniser, and prompts.

    With `views` above 1, each utterance is cached under as many augmentations (the first is none), and training
    draws one: the interface must not only see vectors of speech that the recogniser knows by heart.
    """

    def __init__(
        self,
        manifests: tuple[Path, ...],
        encode: Callable[[list[Tensor]], list[Tensor]],
        key: str,
        mels: int,
        views: int,
        seed: int,
        folder: Path,
        cache: Path | None = None,
        progress: Progress | None = None,
    ):
        """`encode` makes CIF vectors of fbanks with the frozen weights that `key` stands for, kept in `folder`."""
        super().__init__(manifests)
        self.encode, self.seed = encode, seed
        speech = self.rows["speech"][:]
        if silent := [self.name(item) for item, path in enumerate(speech) if not path]:
            raise ManifestError(f"sample {silent[0]!r} has no speech, and stage 2 of speech needs it in every row")
        self.fbanks = Fbanks(speech, mels, SPEEDS if views > 1 else (1.0,), cache, progress)
        files = fingerprint(speech)
        self.views = [
            cached(
                folder / f"tokens-{view}",
                {"files": files, "frozen": key, "view": view, "seed": seed},
                len(self),
                lambda items, view=view: self._compute(items, view),
                lambda done, total, view=view: progress and progress(f"token vectors, view {view}", done, total),
            )
            for view in range(views)
        ]

    def _compute(self, items: list[int], view: int) -> Iterator[Tensor | Exception]:
        features: dict[int, Tensor] = {}
        failed: dict[int, Exception] = {}
        for item in items:
            try:
                features[item] = self.fbanks.load(item, SPEEDS[(view + 1) % len(SPEEDS)])  # view 0 is untouched
                if view:
                    features[item] = spec_augment(features[item], seeded(self.seed, view, item))
            except XLLMError as error:
                failed[item] = error
        vectors = dict(zip(features, self.encode(list(features.values())), strict=True)) if features else {}
        for item in items:
            yield failed[item] if item in failed else vectors[item]

    def unusable(self, item: int) -> str | None:
        if item in self.views[0].failed:
            return self.views[0].failed[item]
        if not normalize(self.rows[item]["response"] or ""):
            return "no response"
        return None if all(view.length(item) for view in self.views) else "no token fires"

    def cost(self, item: int) -> int:
        return max(view.length(item) for view in self.views) + len(self.rows[item]["response"])

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        view = int(torch.randint(len(self.views), (), generator=generator)) if generator else 0
        return {
            "speech": self.views[view][item],
            "instruction": row["instruction"] or INSTRUCTIONS["asr"],
            "response": normalize(row["response"]),
        }

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`tokens` [B, L, D] CIF vectors with `token_lengths` [B]; `instructions`, `responses` as text."""
        return {
            "tokens": pad_sequence([item["speech"] for item in items], batch_first=True),
            "token_lengths": torch.tensor([item["speech"].shape[0] for item in items]),
            "instructions": [item["instruction"] for item in items],
            "responses": [item["response"] for item in items],
        }
