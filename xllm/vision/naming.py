"""How an image encoder from scratch learns to see (stage 0): pictures are told apart by their names.

A classifier whose weights for a name are those of its characters, so that 猫脸 and 黑猫 share what they have in common.
After stage 0 it may read a picture's name, with which the image interface begins.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xllm.errors import ConfigError
from xllm.speech.units import Units

SHARPEN = 5.0  # of logits when reading: label smoothing leaves a tenth of each name to all others
NAMES = "names.txt"  # beside units.txt: what pictures may be called, one name a line


def load_names(folder: Path) -> Tensor:
    """Ids of the characters [C, K] of every name in a tokenizer's folder, padded with 0; raises ConfigError."""
    path = Path(folder) / NAMES
    try:
        names = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror}; run `xllm prepare-data tiny-pictures`") from None
    units = Units.load(folder)
    ids = [torch.tensor(units.encode(name)) for name in names]
    return nn.utils.rnn.pad_sequence(ids, batch_first=True)


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

    def read(self, tokens: Tensor, names: Tensor, places: int) -> Tensor:
        """Probabilities [B, places, V] of each character at each place of the name, id 0 where a name has ended."""
        chances = (SHARPEN * self(tokens, names)).softmax(-1)
        spelled = F.pad(names, (0, places - names.shape[1])).T  # [places, C]
        read = chances.new_zeros(len(tokens), places, self.characters.num_embeddings)
        return read.scatter_add(2, spelled.expand(len(tokens), -1, -1), chances[:, None].expand(-1, places, -1))
