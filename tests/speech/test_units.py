"""Misheard readings: some syllables change, and only to ones that sound alike."""

from xllm.features import seeded
from xllm.speech.units import Units, syllable_parts

UNITS = Units(("<blank>", "<unk>", "你"), ("<blank>", "<unk>", "li3", "ni2", "ni3", "nu3", "zhang4"))


def test_misheard_syllables_share_two_of_three_parts():
    said = UNITS.encode_reading("ni3 zhang4 li3 ni2") * 200
    heard = UNITS.mishear(said, seeded(0))
    changed = [(a, b) for a, b in zip(said, heard, strict=True) if a != b]
    assert 0.05 < len(changed) / len(said) < 0.2
    for a, b in changed:
        assert len(set(syllable_parts(UNITS.syllables[a])) & set(syllable_parts(UNITS.syllables[b]))) == 2
    assert heard == UNITS.mishear(said, seeded(0)) and heard != UNITS.mishear(said, seeded(1))
    noisy = UNITS.mishear(said, seeded(0), 0.8)
    assert 0.5 < sum(a != b for a, b in zip(said, noisy, strict=True)) / len(said) < 0.8
    assert UNITS.syllables.index("zhang4") in heard, "what nothing sounds like is heard right"
