"""What happens in a film, read off where things are in its frames.

An encoder that names things puts places into no single token. A few numbers of every patch, side by side in their
places and in the order of the frames, tell a small network how a thing moves, and so what each frame has to say of it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GLANCE, COURSE = 16, 64  # numbers of a patch, and of a film


class Motion(nn.Module):
    """Patch tokens of a film's frames to one vector per frame."""

    def __init__(self, width: int, patches: int, frames: int, out: int):
        """For films of up to `frames` pictures of `patches` tokens of `width`; vectors have width `out`."""
        super().__init__()
        self.frames = frames
        self.glance = nn.Linear(width, GLANCE)
        self.course = nn.Sequential(
            nn.Linear(frames * patches * GLANCE, COURSE), nn.GELU(), nn.Linear(COURSE, frames * out)
        )

    def forward(self, tokens: Tensor, there: Tensor) -> Tensor:
        """Tokens [B, T, N, D], of which the frames `there` [B, T] exist -> [B, T, out]."""
        films, frames = there.shape
        glances = self.glance(tokens) * there[..., None, None]
        seen = F.pad(glances.flatten(2), (0, 0, 0, self.frames - frames)).flatten(1)
        return self.course(seen).view(films, self.frames, -1)[:, :frames]


def after(ended: Tensor) -> Tensor:
    """The chance [..., Q] that a name ends just before each place, of the chance that it has ended by then [..., Q]."""
    return torch.diff(ended, prepend=torch.zeros_like(ended[..., :1]))
