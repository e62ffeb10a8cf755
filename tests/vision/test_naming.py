"""Names for pictures: what shares characters is alike."""

import pytest
import torch

from xllm.errors import ConfigError
from xllm.vision.naming import Naming, load_names

NAMES = torch.tensor([[1, 2], [2, 1], [1, 0], [3, 4]])  # the first two of the same characters, the third of one of them


def test_a_names_weights_are_those_of_its_characters():
    torch.manual_seed(0)
    naming = Naming(8, 5)
    logits = naming(torch.randn(6, 3, 8), NAMES)
    assert logits.shape == (6, 4)
    torch.testing.assert_close(logits[:, 0], logits[:, 1])
    more = torch.nn.functional.pad(NAMES, (0, 3))
    torch.testing.assert_close(naming(torch.ones(1, 3, 8), more), naming(torch.ones(1, 3, 8), NAMES))


def test_it_learns_to_tell_names_apart():
    torch.manual_seed(0)
    naming, pictures = Naming(8, 5), torch.randn(2, 3, 8)
    optimizer = torch.optim.Adam(naming.parameters(), 0.1)
    for _ in range(30):
        losses = naming.loss(pictures, NAMES[2:], torch.tensor([0, 1]))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert naming.loss(pictures, NAMES[2:], torch.tensor([0, 1]))["wrong"] == 0
    assert naming.loss(pictures, NAMES[2:], torch.tensor([1, 0]))["wrong"] == 1


def test_reading_gives_each_place_of_the_name_its_character():
    torch.manual_seed(0)
    naming, picture = Naming(8, 5), torch.randn(1, 3, 8)
    with torch.no_grad():
        naming.characters.weight.zero_()
    read = naming.read(picture, NAMES, 3)
    assert read.shape == (1, 3, 5)
    torch.testing.assert_close(read.sum(-1), torch.ones(1, 3))
    # four names that are equally likely: 1 2, 2 1, 1, 3 4
    torch.testing.assert_close(read[0, 0], torch.tensor([0, 0.5, 0.25, 0.25, 0]))
    torch.testing.assert_close(read[0, 1], torch.tensor([0.25, 0.25, 0.25, 0, 0.25]))
    torch.testing.assert_close(read[0, 2], torch.tensor([1.0, 0, 0, 0, 0]))
    with torch.no_grad():
        naming.characters.weight[4] = picture.mean((0, 1)) * 100
    torch.testing.assert_close(naming.read(picture, NAMES, 2)[0].argmax(-1), torch.tensor([3, 4]))


def test_names_of_a_folder(tmp_path):
    (tmp_path / "units.txt").write_text("猫\n黑\n脸\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="names.txt"):
        load_names(tmp_path)
    (tmp_path / "names.txt").write_text("猫\n黑猫\n", encoding="utf-8")
    assert load_names(tmp_path).tolist() == [[2, 0], [3, 2]]
