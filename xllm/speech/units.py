"""What the recogniser writes: characters, and the tonal syllables it may read on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from xllm.errors import ConfigError
from xllm.text import normalize

INITIALS = ("zh", "ch", "sh", *"bpmfdtnlgkhjqxrzcsyw")
BLANK, UNKNOWN = 0, 1  # ids shared by characters and syllables; neither is ever written
MISHEARD = 0.15  # share of a text's syllables that training replaces, so that context learns to repair
_RESERVED = ("<blank>", "<unk>")


def syllable_parts(syllable: str) -> tuple[str, ...]:
    """What a tonal syllable is made of, in pinyin spelling: `zhang3` -> `zh-`, `-ang`, `3`. Reserved units: nothing."""
    if syllable in _RESERVED:
        return ()
    initial = next((i for i in INITIALS if syllable.startswith(i)), "")
    return f"{initial}-", f"-{syllable[len(initial) : -1]}", syllable[-1]


@dataclass(frozen=True)
class Units:
    """Character and syllable inventories; ids start with blank (CTC) and unknown.

    `readings` are of the characters, each a tuple of tonal syllables, where they are known.
    """

    characters: tuple[str, ...]
    syllables: tuple[str, ...] = ()
    readings: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def load(cls, folder: Path) -> "Units":
        """Read `units.txt`, one unit a line, and where they are there `syllables.txt` and `readings.txt`.

        The latter has a line for each unit, with syllables or empty. Raises ConfigError when `units.txt` is missing.
        """
        folder = Path(folder)
        try:
            characters = (folder / "units.txt").read_text(encoding="utf-8").split()
        except OSError as error:
            raise ConfigError(
                f"{folder / 'units.txt'}: cannot read: {error.strerror}; run `xllm prepare-data`"
            ) from None
        path = folder / "syllables.txt"
        syllables = path.read_text(encoding="utf-8").split() if path.exists() else []
        path = folder / "readings.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        readings = tuple(tuple(line.split()) for line in lines)
        if readings and len(readings) != len(characters):
            raise ConfigError(f"{path}: {len(readings)} lines for {len(characters)} units; each unit has one")
        return cls(
            (*_RESERVED, *characters),
            (*_RESERVED, *syllables) if syllables else (),
            ((),) * len(_RESERVED) + readings if readings else (),
        )

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {unit: i for i, unit in enumerate(self.characters)}

    @cached_property
    def _syllable_ids(self) -> dict[str, int]:
        return {unit: i for i, unit in enumerate(self.syllables)}

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text's characters; what is not in the inventory is unknown."""
        return [self._ids.get(character, UNKNOWN) for character in normalize(text)]

    def encode_reading(self, reading: str) -> list[int]:
        """Ids of space-separated syllables, e.g. `cheng2 qu1`."""
        return [self._syllable_ids.get(syllable, UNKNOWN) for syllable in reading.split()]

    @cached_property
    def _alike(self) -> list[list[int]]:
        """For each syllable those that share two of its three parts: another tone, another initial, another final."""
        parts = [set(syllable_parts(syllable)) for syllable in self.syllables]
        return [[j for j, other in enumerate(parts) if len(own & other) == 2] or [i] for i, own in enumerate(parts)]

    def mishear(self, syllables: list[int], generator: torch.Generator, share: float = MISHEARD) -> list[int]:
        """A reading as a recogniser might hear it: a `share` of syllables replaced by ones that sound alike."""
        heard = list(syllables)
        for place in (torch.rand(len(heard), generator=generator) < share).nonzero().flatten().tolist():
            alike = self._alike[heard[place]]
            heard[place] = alike[int(torch.randint(len(alike), (), generator=generator))]
        return heard

    def decode(self, ids: Sequence[int]) -> list[str]:
        """One character per id."""
        return [self.characters[i] for i in ids]
