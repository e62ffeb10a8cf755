"""How an image encoder from scratch learns to see (stage 0): pictures are told apart by their names.

As in CLIP, a picture and its name meet in one space; a name is no more than the mean of its characters, so that 猫脸
and 黑猫 share what they have in common. After stage 0 only the encoder is used.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARPEST = 100.0  # CLIP's limit of the learned scale


class Naming(nn.Module):
    """Patch tokens and names to a score for every pair."""

    def __init__(self, width: int, characters: int):
        super().__init__()
        self.look = nn.Linear(width, width)
        self.characters = nn.EmbeddingBag(characters, width, mode="mean", padding_idx=0)
        self.scale = nn.Parameter(torch.tensor(2.66))  # log of CLIP's 1 / 0.07

    def forward(self, tokens: Tensor, names: Tensor) -> Tensor:
        """Logits [B, C] of patch tokens [B, N, D] and names [C, K], ids of characters padded with 0."""
        seen = F.normalize(self.look(tokens.mean(1)), dim=-1)
        called = F.normalize(self.characters(names), dim=-1)
        return self.scale.exp().clamp(max=SHARPEST) * seen @ called.T

    def loss(self, tokens: Tensor, names: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the right names' numbers `targets` [B], and the share of pictures named wrongly."""
        logits = self(tokens, names)
        loss = F.cross_entropy(logits, targets, label_smoothing=0.1)
        return {"loss": loss, "wrong": (logits.argmax(-1) != targets).float().mean()}
