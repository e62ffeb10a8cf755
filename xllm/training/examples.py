"""What stages 0 and 1 feed their models: one class per kind of example, turning a manifest's rows into batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from xllm.config import IGNORE, ModelConfig, SpeechEncoderConfig
from xllm.errors import XLLMError
from xllm.features import SPEEDS, augment
from xllm.instructions import INSTRUCTIONS
from xllm.manifest import FRAME, read_manifest
from xllm.media import probe_audio
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.prompt import Prompt, fill
from xllm.speech.homophones import Homophones
from xllm.speech.units import MISHEARD, UNKNOWN, Units
from xllm.text import normalize, reading
from xllm.training.cache import Cache
from xllm.training.fbanks import Fbanks, Progress
from xllm.training.looks import Looks
from xllm.training.states import States

FRAMES_PER_TOKEN = 8  # what a token of text costs beside speech: one encoder frame, the least CIF needs for it
WORST = 0.4  # at most this share of characters is misheard in dictation
DICTATION = 0.8  # share of stage 0's samples that are dictated, where their reading is known
NOISY = 0.8  # at most this share of syllables is misheard beside a picture, so that pictures help to hear
PATCH_SLOT, FRAME_SLOT = range(8, 33), range(6, 13)  # embeddings that a picture, or one frame, takes when told


def _heard(row: dict[str, Any]) -> bool:
    """Whether the row asks for what was said, not for an answer to it."""
    return row["told"]["speech"] == normalize(row["response"])


def _draw(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


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
    """Stage 0: plain text, questions and answers, and prompts whose media are told in words.

    A large language model knows how Chinese is read, and takes a description for the thing; a small one has to be
    taught. Most samples that have a reading become the prompt of speech recognition with syllables, partly misheard,
    or characters in place of speech; `told` puts words in place of pictures and films (`tiny_instructions`).
    """

    def __init__(self, manifests: tuple[Path, ...], prompt: Prompt, units: Units):
        super().__init__(manifests)
        self.prompt, self.units = prompt, units
        self.homophones = Homophones(units) if units.readings else None

    def unusable(self, item: int) -> str | None:
        return None if self.rows[item]["response"] else "no response"

    def cost(self, item: int) -> int:
        row = self.rows[item]
        told = {name: text for name, text in (row["told"] or {}).items() if text}
        slots = {"image": PATCH_SLOT[-1], "video": FRAME_SLOT[-1] * (told.get("video", "").count(FRAME) + 1)}
        texts = [turn[key] for turn in row["history"] or [] for key in turn]
        speech = len(told["speech"]) if "speech" in told else len(row["response"]) if not told else 0
        return (
            sum(map(len, [row["response"], row["instruction"] or "", *texts]))
            + speech
            + 20
            + sum(slots.get(name, 0) for name in told)
        )

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        told = {name: text for name, text in (row["told"] or {}).items() if text}
        spoken = row["reading"] or (self.homophones and not row["instruction"])
        if not told and spoken and (_draw(generator) < DICTATION if generator else item % 2):
            told, row = {"speech": row["response"]}, row | {"instruction": INSTRUCTIONS["asr"][0]}
        if not told and (row["reading"] or not row["instruction"]):
            ids = self.prompt.text(row["response"])
            return {"ids": ids, "targets": ids}
        noise = NOISY * _draw(generator) if generator and told.keys() >= {"image", "speech"} and _heard(row) else 0.0
        slots = {name: [self._tell(name, text, row["reading"], generator, noise)] for name, text in told.items()}
        prompt = self.prompt.ids(row["instruction"], slots, row["history"] or ())
        answer = self.prompt.answer(row["response"])
        return {"ids": prompt + answer, "targets": [IGNORE] * len(prompt) + answer}

    def _tell(self, name: str, text: str, reading: str, generator: torch.Generator | None, noise: float) -> list[int]:
        """Ids of the words in a slot: speech as syllables and characters, pictures and frames filled up with spaces."""
        if name == "speech" and self.homophones:
            heard = self.units.encode(text)
            if generator:
                heard = self.homophones.mishear(heard, generator, max(noise, WORST * _draw(generator)))
            return self.prompt.tokens("".join(self.units.decode(c for c in heard if c > UNKNOWN)))
        if name == "speech":
            said, heard = self.units.encode_reading(reading), self.units.encode_reading(reading)
            if generator:
                heard = self.units.mishear(said, generator, max(noise, MISHEARD))
            ids = self.prompt.spell(" ".join(self.units.syllables[syllable] for syllable in heard))
            if generator:  # a C-Former is sure of some characters, of others it knows but the sound
                sure = torch.rand(len(ids), generator=generator) < _draw(generator)
                characters = self.prompt.tokens(normalize(text))
                ids = [
                    c if ok and h == s else i for i, c, ok, h, s in zip(ids, characters, sure, heard, said, strict=True)
                ]
            return ids
        sizes = PATCH_SLOT if name == "image" else FRAME_SLOT
        size = sizes[int(torch.randint(len(sizes), (), generator=generator))] if generator else 8
        return self.prompt.tokens(fill(text, size))

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`ids` and `targets` [B, L] right-padded, `lengths` [B]; targets are IGNORE where no loss is due."""
        return {
            "ids": pad_ids([item["ids"] for item in items], 0),
            "targets": pad_ids([item["targets"] for item in items], IGNORE),
            "lengths": torch.tensor([len(item["ids"]) for item in items]),
        }


class SpeechExamples(Examples):
    """Stage 1: fbank and characters; rows without speech train the decoder alone from their readings.

    Of sound whose response is the empty text the recogniser learns to write nothing.

    With a `seeing` configuration (`image_config`), also the picture and caption of each row that has them.
    """

    def __init__(
        self,
        manifests: tuple[Path, ...],
        units: Units,
        encoder: SpeechEncoderConfig,
        augment: bool,
        cache: Cache | None = None,
        progress: Progress | None = None,
        seeing: ModelConfig | None = None,
        states: Callable[[Sequence[str | None]], States] | None = None,
        looks: Callable[[Sequence[str]], Looks] | None = None,
    ):
        """With `states` and `looks`, which make them for the paths, these come in place of fbank and of images."""
        super().__init__(manifests)
        self.units, self.augment, self.seeing = units, augment, seeing
        self.looks = looks and looks([images[0] for images in self.rows["image"] if images])
        self.speech = self.rows["speech"][:]
        self.states = states and states(self.speech)
        if self.states:
            return
        self.fbanks = Fbanks(self.speech, encoder, SPEEDS if augment else (1.0,), cache, progress)

    def kind(self, item: int) -> int:
        return 0 if self.speech[item] else 1

    def unusable(self, item: int) -> str | None:
        row = self.rows[item]
        if reason := (self.states or self.fbanks).failed(item):
            return reason
        if self.looks and row["image"] and (reason := self.looks.failed.get(row["image"][0])):
            return reason
        characters = self.units.encode(row["response"] or "")
        silent = row["response"] == "" and self.speech[item] and not self.units.syllables
        if not characters and not silent:
            return "the response has no characters"
        if self.units.syllables:
            try:
                syllables = self._syllables(row)
            except XLLMError as error:
                return str(error)
            if len(syllables) != len(characters):
                return "the reading does not have one syllable per character"
        if self.speech[item]:
            return None
        if not self.units.syllables:
            return "no speech, and this recogniser learns nothing from text alone"
        if UNKNOWN in characters:
            return "text with characters outside the units"
        return None

    def _syllables(self, row: dict[str, Any]) -> list[int]:
        """Ids of the row's reading, or of the dictionary's where it has none; raises XLLMError without pypinyin."""
        return self.units.encode_reading(row["reading"] or reading(row["response"]) or "")

    def cost(self, item: int) -> int:
        if not self.speech[item]:
            return FRAMES_PER_TOKEN * len(self.rows[item]["response"])
        if self.states:
            return self.states.length(item)
        return self.fbanks.length(item) or int(
            100 * (self.rows[item]["duration"] or probe_audio(Path(self.speech[item])))
        )

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        example: dict[str, Any] = {"characters": self.units.encode(row["response"])}
        if self.seeing:
            path = row["image"][0] if self.seeing.vision and row["image"] else None
            example["picture"] = path and self._picture(path, generator if self.augment else None)
            example["caption"] = row["caption"]
        if self.units.syllables:
            example["syllables"] = self._syllables(row)
        if not self.speech[item]:
            if generator:
                example["syllables"] = self.units.mishear(example["syllables"], generator)
            return example
        if self.states:
            example["features"] = self.states.load(item, generator if self.augment else None)
        elif generator is None or not self.augment or self.flat_start:
            example["features"] = self.fbanks.load(item)
        else:
            speed = SPEEDS[int(torch.randint(len(SPEEDS), (), generator=generator))]
            example["features"] = augment(self.fbanks.load(item, speed), generator, self.fbanks.encoder.form)
        return example

    def _picture(self, path: str, draw: torch.Generator | None) -> Tensor:
        return self.looks[path] if self.looks else MODALITIES["image"].load(Path(path), self.seeing, draw)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """The arguments of `Recognizer.losses`, or of `recognition_loss` where pictures are seen."""
        batch = {
            "characters": pad_ids([item["characters"] for item in items], IGNORE),
            "token_lengths": torch.tensor([len(item["characters"]) for item in items]),
        }
        if "syllables" in items[0]:
            batch["syllables"] = pad_ids([item["syllables"] for item in items], IGNORE)
        if "features" in items[0]:
            batch["features"] = pad_sequence([item["features"] for item in items], batch_first=True)
            batch["feature_lengths"] = torch.tensor([item["features"].shape[0] for item in items])
            batch |= {"depth": self.states.depth} if self.states else {"flat_start": self.flat_start}
        if "picture" in items[0]:
            batch["images"] = [item["picture"] for item in items]
            batch["captions"] = [item["caption"] for item in items]
            batch["encoded"] = self.looks is not None
        return batch


class PictureExamples(Examples):
    """Stage 0, image: pictures and the names that they are told apart by: all those in the manifests."""

    def __init__(self, manifests: tuple[Path, ...], model: XLLM, augment: bool):
        super().__init__(manifests)
        self.config, self.augment = model.config, augment
        names = [normalize(name or "") for name in self.rows["response"][:]]
        self.numbers = {name: number for number, name in enumerate(dict.fromkeys(filter(None, names)))}
        self.names = pad_ids([model.units.encode(name) for name in self.numbers], 0)

    def unusable(self, item: int) -> str | None:
        row = self.rows[item]
        if not row["image"]:
            return "no image"
        return None if normalize(row["response"] or "") else "no response"

    def cost(self, item: int) -> int:
        return 1

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        draw = generator if self.augment else None
        pixels = MODALITIES["image"].load(Path(row["image"][0]), self.config, draw)
        return {"pixels": pixels[0], "target": self.numbers[normalize(row["response"])]}

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`pixels` [B, 3, H, W], `targets` [B] numbers of `names` [C, K], characters padded with 0."""
        return {
            "pixels": torch.stack([item["pixels"] for item in items]),
            "targets": torch.tensor([item["target"] for item in items]),
            "names": self.names,
        }
