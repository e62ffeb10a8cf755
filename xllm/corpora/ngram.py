"""Sentences drawn from a trigram model in ARPA form: what words stand beside each other, without anybody's sentences.

The tiny system learns spelling and a little syntax from them. The model of fcitx's libime (docs/tiny.md) has words as
units and no sentence ends, so a draw is a stretch of text.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from xllm.errors import ManifestError

BACK_OFF = 0.2  # chance of a shorter history where a longer one has successors; the model's own gives word salad
RARE = 0.15  # chance that a drawn word outside the favoured vocabulary stays

_Successors = tuple[list[int], list[float]]  # words that may follow and their running sum of probabilities


class Trigrams:
    """P(word | two words before), with back-off."""

    def __init__(self, path: Path, usable: Callable[[str], bool]):
        """Read an ARPA file, leaving out words that are not `usable`; raises ManifestError when it is not one."""
        self.words: list[str] = []
        known: dict[str, int] = {}
        found: dict[tuple[int, ...], _Successors] = {}
        order = 0
        try:
            with Path(path).open(encoding="utf-8") as lines:
                for line in lines:
                    if line.startswith("\\"):
                        order = int(line[1]) if line[1].isdigit() else 0
                        continue
                    columns = line.split("\t")
                    if not order or len(columns) < 2:
                        continue
                    gram = columns[1].split()
                    if order == 1 and usable(gram[0]):
                        known[gram[0]] = len(self.words)
                        self.words.append(gram[0])
                    ids = [known.get(word) for word in gram]
                    if None in ids:
                        continue
                    words, sums = found.setdefault(tuple(ids[:-1]), ([], []))
                    words.append(ids[-1])
                    sums.append((sums[-1] if sums else 0.0) + 10.0 ** float(columns[0]))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ManifestError(f"{path}: cannot be read as an ARPA language model ({error})") from None
        if () not in found:
            raise ManifestError(f"{path}: holds no usable word")
        self.successors = found

    def draw(self, before: tuple[int, ...], random: np.random.Generator) -> int:
        """A word after at most two others, mostly from the longest history that has successors."""
        while before and (before not in self.successors or random.random() < BACK_OFF):
            before = before[1:]
        words, sums = self.successors[before]
        return words[min(bisect_right(sums, random.random() * sums[-1]), len(words) - 1)]


def stretches(model: Trigrams, favoured: set[str], lengths: range, seed: int = 0) -> Iterator[str]:
    """Endless stretches of text of `lengths` characters; words with characters that are not `favoured` are rarer."""
    random = np.random.default_rng(seed)
    common = [favoured.issuperset(word) for word in model.words]
    while True:
        size = int(random.integers(lengths.start, lengths.stop))
        words: list[int] = []
        text = ""
        while len(text) < size:
            word = model.draw(tuple(words[-2:]), random)
            if common[word] or random.random() < RARE:
                words.append(word)
                text += model.words[word]
        if len(text) in lengths:
            yield text
