"""What a stage feeds its model: one class per kind of example, each turning a manifest's rows into batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence

from xllm.config import IGNORE
from xllm.errors import ManifestError, XLLMError
from xllm.features import SPEEDS, augment, seeded
from xllm.manifest import read_manifest
from xllm.media import probe_audio
from xllm.prompt import INSTRUCTIONS, Prompt
from xllm.speech.recognizer import Recognizer
from xllm.speech.units import UNKNOWN, Units
from xllm.text import normalize
from xllm.training.cache import cached
from xllm.training.fbanks import Fbanks, Progress, fingerprint

FRAMES_PER_TOKEN = 8  # what a token of text costs beside speech: one encoder frame, the least CIF needs for it
DICTATION = 0.8  # share of stage 0's samples that are dictated, where their reading is known


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

    def __init__(self, manifests: tuple[Path, ...], prompt: Prompt, units: Units):
        super().__init__(manifests)
        self.prompt, self.units = prompt, units

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
        heard = self.units.encode_reading(row["reading"])
        if generator:
            heard = self.units.mishear(heard, generator)
        reading = " ".join(self.units.syllables[syllable] for syllable in heard)
        prompt, answer = self.prompt.dictation(INSTRUCTIONS["asr"], reading, normalize(row["response"]))
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
            if generator:
                example["syllables"] = self.units.mishear(example["syllables"], generator)
            return example
        if generator is None or not self.augment or self.flat_start:
            example["features"] = self.fbanks.load(item)
        else:
            speed = SPEEDS[int(torch.randint(len(SPEEDS), (), generator=generator))]
            example["features"] = augment(self.fbanks.load(item, speed), generator)
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
    """Stage 2, speech: token vectors, computed once by the frozen recogniser, and prompts.

    With `views` above 1, each utterance is cached under as many augmentations (the first is none), and training
    draws one: the interface must not only see vectors of speech that the recogniser knows by heart. Where the
    recogniser reads syllables, rows without speech stand in for it with those of their reading, partly misheard.
    """

    def __init__(
        self,
        manifests: tuple[Path, ...],
        encode: Callable[[list[Tensor]], list[Tensor]],
        recognizer: Recognizer,
        views: int,
        seed: int,
        folder: Path,
        key: str,
        cache: Path | None = None,
        progress: Progress | None = None,
    ):
        """`encode` makes token vectors of fbanks with the frozen `recognizer`, whose weights `key` stands for.

        They are kept in `folder`, fbanks in `cache`.
        """
        super().__init__(manifests)
        self.encode, self.seed = encode, seed
        self.units = recognizer.units
        speech = self.rows["speech"][:]
        silent = [self.name(item) for item, path in enumerate(speech) if not path]
        if silent and not self.units.syllables:
            raise ManifestError(f"sample {silent[0]!r} has no speech, and this recogniser cannot do without")
        self.spoken = [item for item, path in enumerate(speech) if path]
        self._number = {item: number for number, item in enumerate(self.spoken)}
        self.fbanks = Fbanks(speech, recognizer.config.encoder.mels, SPEEDS if views > 1 else (1.0,), cache, progress)
        files = fingerprint([speech[item] for item in self.spoken])
        self.views = [
            cached(
                folder / f"tokens-{view}",
                {"files": files, "frozen": key, "view": view, "seed": seed},
                len(self.spoken),
                lambda numbers, view=view: self._compute([self.spoken[n] for n in numbers], view),
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
                    features[item] = augment(features[item], seeded(self.seed, view, item))
            except XLLMError as error:
                failed[item] = error
        vectors = dict(zip(features, self.encode(list(features.values())), strict=True)) if features else {}
        for item in items:
            yield failed[item] if item in failed else vectors[item]

    def unusable(self, item: int) -> str | None:
        row = self.rows[item]
        if not normalize(row["response"] or ""):
            return "no response"
        number = self._number.get(item)
        if number is None:
            return None if row["reading"] else "neither speech nor reading"
        if number in self.views[0].failed:
            return self.views[0].failed[number]
        return None if all(view.length(number) for view in self.views) else "no token fires"

    def cost(self, item: int) -> int:
        number, size = self._number.get(item), len(self.rows[item]["response"])
        return size + (size if number is None else max(view.length(number) for view in self.views))

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        return {
            "speech": self._tokens(item, row["reading"], generator),
            "reading": row["reading"] or "",
            "instruction": row["instruction"] or INSTRUCTIONS["asr"],
            "response": normalize(row["response"]),
        }

    def _tokens(self, item: int, reading: str, generator: torch.Generator | None) -> Tensor:
        if item in self._number:
            view = int(torch.randint(len(self.views), (), generator=generator)) if generator else 0
            return self.views[view][self._number[item]]
        ids = self.units.encode_reading(reading)
        if generator:
            ids = self.units.mishear(ids, generator)
        return one_hot(torch.tensor(ids), len(self.units.syllables)).float()

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`tokens` [B, L, D] with `token_lengths` [B]; `readings`, `instructions`, `responses` as text."""
        return {
            "tokens": pad_sequence([item["speech"] for item in items], batch_first=True),
            "token_lengths": torch.tensor([item["speech"].shape[0] for item in items]),
            "readings": [item["reading"] for item in items],
            "instructions": [item["instruction"] for item in items],
            "responses": [item["response"] for item in items],
        }
