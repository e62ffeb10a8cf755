"""Text as a recogniser might have heard it, from how characters are read: what costs no sound teaches context.

Half of a recogniser's errors are characters of the same sound (FACTS 12); which one was meant is for the text around it
to say. So plain text, with some of its characters misheard, trains the language model to repair (stage 0), and as the
probabilities that the recogniser would have given it stands in for speech before the interface (stage 2).
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from xllm.speech.units import Units, syllable_parts

SAME, TONE = 0.55, 0.85  # cumulative shares of what is misheard: as the same syllable, as one of another tone; the rest
#                          as a syllable with another initial or final
MISHEARD = 0.5  # at most this share of a text that stands in for speech
# How much likelier, in log, what is heard is at most than all else: when right, and when wrong; and then than what was
# said. So are the probabilities of the first recogniser on recordings it had not learned from (docs/decisions.md).
SURE, WRONG, SECOND = 11.0, 3.8, 6.5
RARE = 10.0  # rank from which a character's frequency falls as its rank grows (Zipf); units are in order of frequency


class Homophones:
    """Characters of `units` that sound alike, the common ones first."""

    def __init__(self, units: Units):
        """Raises ValueError when the units have no readings."""
        if not units.readings:
            raise ValueError("the units have no readings.txt")
        self.size = len(units.characters)
        self.readings = units.readings
        same, toneless = defaultdict(list), defaultdict(list)
        for number, syllables in enumerate(units.readings):
            for syllable in syllables:
                same[syllable].append(number)
                toneless[syllable[:-1]].append(number)
        self._same = {syllable: torch.tensor(ids) for syllable, ids in same.items()}
        self._toneless = {syllable: torch.tensor(ids) for syllable, ids in toneless.items()}
        parts = {syllable: syllable_parts(syllable) for syllable in same}
        sharing = defaultdict(list)
        for syllable, (initial, final, tone) in parts.items():
            for key in ((initial, tone), (final, tone)):
                sharing[key].append(syllable)
        self._similar = {
            syllable: [s for key in ((initial, tone), (final, tone)) for s in sharing[key] if s != syllable]
            or [syllable]
            for syllable, (initial, final, tone) in parts.items()
        }
        self._frequency = 1.0 / (RARE + torch.arange(self.size))
        self._pools: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def _draw(self, pool: Tensor, generator: torch.Generator) -> int:
        return int(pool[torch.multinomial(self._frequency[pool], 1, generator=generator)])

    def mishear(self, ids: Sequence[int], generator: torch.Generator, share: float) -> list[int]:
        """Ids of characters with a `share` of them replaced by ones that sound alike; what has no reading stays."""
        heard = list(ids)
        for place in (torch.rand(len(heard), generator=generator) < share).nonzero().flatten().tolist():
            if not (syllables := self.readings[heard[place]]):
                continue
            kind, which = torch.rand(2, generator=generator).tolist()
            syllable = syllables[int(which * len(syllables))]
            if kind < SAME:
                pool = self._same[syllable]
            elif kind < TONE:
                pool = self._toneless[syllable[:-1]]
            else:
                similar = self._similar[syllable]
                pool = self._same[similar[int(torch.randint(len(similar), (), generator=generator))]]
            heard[place] = self._draw(pool, generator)
        return heard

    def probabilities(self, said: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """What a recogniser might make of the characters `said` [L]: [L, V], of what it hears and what sounds alike.

        With a generator some are misheard, and it is now sure, now not; without one it is right and sure.
        """
        out = torch.zeros(len(said), self.size)
        share = MISHEARD * float(torch.rand((), generator=generator)) if generator else 0.0
        heard = self.mishear(said, generator, share) if generator else said
        for place, (meant, first) in enumerate(zip(said, heard, strict=True)):
            if generator is None or not self.readings[first]:
                out[place, first] = 1.0
                continue
            prior, sure, second = torch.rand(3, generator=generator).tolist()
            pool, common, same = self._alike(first, meant)
            logits = 2 * prior * common + same + torch.randn(len(pool), generator=generator)
            logits = logits - logits.logsumexp(0)
            own = (SURE if first == meant else WRONG) * sure
            if first != meant:  # which is then often the second
                logits[pool == meant] = own - SECOND * second
            logits[pool == first] = own
            out[place, pool] = logits.softmax(0)
        return out

    def _alike(self, *characters: int) -> tuple[Tensor, Tensor, Tensor]:
        """What sounds like one of some characters but for the tone: ids, log frequency, and more where the first is."""
        if characters not in self._pools:
            syllables = [syllable for character in characters for syllable in self.readings[character]]
            pool = torch.cat([self._toneless[syllable[:-1]] for syllable in syllables]).unique()
            same = 2.0 * torch.isin(pool, self._same[syllables[0]])
            self._pools[characters] = pool, self._frequency[pool].log(), same
        return self._pools[characters]
