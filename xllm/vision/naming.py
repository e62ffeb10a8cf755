"""How an image encoder from scratch learns to see (stage 0): pictures are told apart by their names.

A classifier whose weights for a name are those of its characters, so that 猫脸 and 黑猫 share what they have in common.
After stage 0 only the encoder is used.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Naming(nn.Module):
    """Patch tokens and names to a score for every pair."""

    def __init__(self, width: int, characters: int):
        super().__init__()
        self.characters = nn.EmbeddingBag(characters, width, mode="sum", padding_idx=0)
        nn.init.normal_(self.characters.weight, std=0.05)

    def forward(self, tokens: Tensor, names: Tensor) -> Tensor:
        """Logits [B, C] of patch tokens [B, N, D] and names [C, K], ids of characters padded with 0."""
        called = self.characters(names) / (names > 0).sum(1, keepdim=True).sqrt()
        return tokens.mean(1) @ called.T

    def loss(self, tokens: Tensor, names: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the right names' numbers `targets` [B], and the share of pictures named wrongly."""
        logits = self(tokens, names)
        loss = F.cross_entropy(logits, targets, label_smoothing=0.1)
        return {"loss": loss, "wrong": (logits.argmax(-1) != targets).float().mean()}
