"""Text as it might have been heard: characters of the same sound, the common ones first, nothing without a reading."""

import pytest
import torch

from xllm.features import seeded
from xllm.speech.homophones import Homophones
from xllm.speech.units import Units

CHARACTERS = tuple("是时师张章长三山a")
READINGS = ("shi4", "shi2", "shi1", "zhang1", "zhang1", "zhang3 chang2", "san1", "shan1", "")
UNITS = Units(("<blank>", "<unk>", *CHARACTERS), (), ((), (), *(tuple(line.split()) for line in READINGS)))


@pytest.fixture
def homophones():
    return Homophones(UNITS)


def misheard(homophones, character, times=300):
    ids = UNITS.encode(character * times)
    return [UNITS.characters[i] for i in homophones.mishear(ids, seeded(1), 1.0)]


def test_what_is_misheard_sounds_alike(homophones):
    heard = misheard(homophones, "章")
    assert {"张", "章", "长"} <= set(heard) <= {"张", "章", "长", "三", "山"}
    assert heard.count("张") > heard.count("三")
    assert set(misheard(homophones, "a")) == {"a"}


def test_a_share_is_misheard_and_it_can_be_had_again(homophones):
    ids = UNITS.encode("是三" * 500)
    heard = homophones.mishear(ids, seeded(2), 0.2)
    assert heard == homophones.mishear(ids, seeded(2), 0.2) and len(heard) == len(ids)
    assert 0.02 < sum(a != b for a, b in zip(ids, heard, strict=True)) / len(ids) < 0.2
    assert homophones.mishear(ids, seeded(2), 0.0) == ids


def test_probabilities_are_of_what_sounds_alike_and_mostly_right(homophones):
    ids = UNITS.encode("时" * 20 + "a")
    p = torch.stack([homophones.probabilities(ids, seeded(number)) for number in range(40)])
    assert p.shape == (40, 21, len(UNITS.characters))
    torch.testing.assert_close(p.sum(-1), torch.ones(40, 21))
    assert p[:, :20, UNITS.encode("是时师")].sum(-1).min() > 0.999, "they share their initial, which others do not"
    right = p[:, :20].argmax(-1) == ids[0]
    assert 0.7 < right.float().mean() < 0.99
    assert p[:, :20][right].max(-1).values.median() > p[:, :20][~right].max(-1).values.median()
    assert (p[:, :20][~right][:, ids[0]] > 0.02).float().mean() > 0.5, "what was said is often the second"
    assert (p[:, 20, ids[20]] == 1.0).all()
    sure = homophones.probabilities(ids)
    assert (sure.max(1).values == 1).all() and sure.argmax(1).tolist() == ids


def test_units_without_readings_are_refused():
    with pytest.raises(ValueError, match="readings"):
        Homophones(Units(("<blank>", "<unk>", "天")))
