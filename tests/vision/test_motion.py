"""What happens in a film: frames that are not there do not count, and a name's end is where its chance is."""

import torch

from xllm.vision.motion import Motion, after


def test_short_films_are_seen_as_they_are():
    torch.manual_seed(0)
    motion = Motion(width=6, patches=4, frames=5, out=8)
    tokens = torch.randn(2, 3, 4, 6)
    there = torch.tensor([[True, True, True], [True, True, False]])
    both = motion(tokens, there)
    assert both.shape == (2, 3, 8)
    torch.testing.assert_close(both[1:, :2], motion(tokens[1:, :2], there[1:, :2]))


def test_a_name_ends_once():
    ended = torch.tensor([[0.0, 0.0, 0.3, 1.0, 1.0]])  # of two characters, or more likely three
    torch.testing.assert_close(after(ended), torch.tensor([[0.0, 0.0, 0.3, 0.7, 0.0]]))
    assert torch.equal(after(torch.ones(2, 4)).argmax(-1), torch.zeros(2, dtype=torch.long))
