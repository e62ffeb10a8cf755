"""Names for pictures: what shares characters is alike."""

import torch

from xllm.vision.naming import Naming

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
