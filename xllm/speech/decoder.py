"""Decoder of the CIF-based recogniser (paper A.3, FACTS 3): CIF vectors in, characters out.

Both published forms. The non-autoregressive form reads all CIF vectors at once. The autoregressive form joins the
previous character's embedding with the previous CIF vector, sees only the past, and meets the current CIF vector
before the output projection. Blocks 3-4 cross-attend to visual and 5-6 to linguistic features; both are zero when
absent, which is what the paper feeds.

With `syllables`, CIF vectors are first read as tonal syllables and the blocks read those: which syllable was said is
learned from speech, which character it is can be learned from text alone (docs/decisions.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from xllm.config import DecoderConfig
from xllm.speech.conformer import RotarySelfAttention, length_mask
from xllm.speech.units import syllable_parts


class Foreign(NamedTuple):
    """Features of a picture or a caption beside each utterance: [B, N, D_foreign] with `lengths` [B]."""

    features: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, rows: Sequence[Tensor | None], width: int) -> "Foreign | None":
        """One [N, D_foreign] an utterance; none is the zero vector that the paper feeds where there is nothing."""
        if all(row is None for row in rows):
            return None
        device = next(row.device for row in rows if row is not None)
        rows = [torch.zeros(1, width, device=device) if row is None else row for row in rows]
        return cls(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows], device=device))

    def repeat_interleave(self, times: int, dim: int) -> "Foreign":
        """Each utterance's features several times, for the hypotheses of a beam."""
        return Foreign(*(t.repeat_interleave(times, dim) for t in self))


class CrossAttention(nn.Module):
    """Attention from tokens [B, L, D] to foreign features; no features are one zero vector.

    It begins without effect, so that a trained recogniser can learn to attend to images. It has no biases: beside
    nothing it never has an effect, and what is recognised without an image stays as it was.
    """

    def __init__(self, width: int, heads: int, foreign: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(
            width, heads, dropout, bias=False, kdim=foreign, vdim=foreign, batch_first=True
        )
        nn.init.zeros_(self.attention.out_proj.weight)
        self.foreign = foreign

    def forward(self, x: Tensor, foreign: Foreign | None) -> Tensor:
        if foreign is None:
            foreign = Foreign(x.new_zeros(len(x), 1, self.foreign), torch.ones(len(x), device=x.device))
        features = foreign.features.to(x.dtype)
        hidden = ~length_mask(foreign.lengths, features.shape[1])
        return x + self.attention(self.norm(x), features, features, hidden, need_weights=False)[0]


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention where the paper has it, feed-forward; pre-norm."""

    def __init__(self, config: DecoderConfig, foreign: int | None):
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(width)
        self.attention = RotarySelfAttention(width, config.heads, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.cross = CrossAttention(width, config.heads, foreign, config.dropout) if foreign else None
        self.ffn = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.ffn),
            nn.GELU(),
            nn.Linear(config.ffn, width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor, mask: Tensor, foreign: Foreign | None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm(x), mask))
        if self.cross is not None:
            x = self.cross(x, foreign)
        return x + self.ffn(x)


class SyllableHead(nn.Module):
    """Logits of tonal syllables [..., S] from [..., D]: of their initial, final and tone, plus their own.

    A thousand syllables share some seventy parts, so that rare ones are learned from all that sound alike.
    """

    def __init__(self, width: int, syllables: Sequence[str]):
        super().__init__()
        parts = [syllable_parts(syllable) for syllable in syllables]
        names = sorted({part for made_of in parts for part in made_of})
        made = torch.zeros(len(names), len(syllables))
        for number, made_of in enumerate(parts):
            made[[names.index(part) for part in made_of], number] = 1.0
        self.register_buffer("made", made, persistent=False)
        self.parts = nn.Linear(width, len(names))
        self.own = nn.Linear(width, len(syllables))

    def forward(self, x: Tensor) -> Tensor:
        return self.own(x) + F.linear(self.parts(x), self.made.T)


class Decoder(nn.Module):
    """CIF vectors [B, L, D_encoder] to character logits [B, L, V]."""

    START = 0  # the blank's id doubles as the character before the first one

    def __init__(self, config: DecoderConfig, encoder_width: int, units: int, syllables: Sequence[str] = ()):
        super().__init__()
        self.config = config
        width = config.width
        self.read = nn.Linear(encoder_width, width)
        if config.syllables:
            self.syllable_logits = SyllableHead(encoder_width, syllables)
            self.syllable_embedding = nn.Embedding(len(syllables), width)
        if config.form == "ar":
            self.previous = nn.Embedding(units, width)
            self.join = nn.Linear(2 * width, width)
            self.meet = nn.Linear(2 * width, width)
        foreign = {n: config.visual_width for n in config.visual_blocks}
        foreign |= {n: config.linguistic_width for n in config.linguistic_blocks}
        self.blocks = nn.ModuleList(DecoderBlock(config, foreign.get(n)) for n in range(1, config.blocks + 1))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, units)

    def from_syllables(self, ids: Tensor) -> Tensor:
        """Vectors for known syllables [B, L] -> [B, L, D]: how text without speech enters."""
        return self.syllable_embedding(ids)

    def from_cif(self, embeddings: Tensor) -> tuple[Tensor, Tensor | None]:
        """CIF vectors [B, L, D_encoder] -> what the blocks read [B, L, D], and syllable logits or None."""
        if not self.config.syllables:
            return self.read(embeddings), None
        logits = self.syllable_logits(embeddings)
        # The characters' loss must not teach the encoder to tell homophones apart by remembering sentences.
        expected = logits.detach().float().softmax(-1).to(logits.dtype) @ self.syllable_embedding.weight
        return expected, logits

    def forward(
        self,
        read: Tensor,
        lengths: Tensor,
        previous: Tensor | None = None,
        visual: Foreign | None = None,
        linguistic: Foreign | None = None,
    ) -> Tensor:
        """Return logits [B, L, V] for vectors `read` [B, L, D] of `lengths` [B].

        `previous` [B, L] are the characters before each position, needed by the autoregressive form only;
        `visual` and `linguistic` features are zero when absent.
        """
        mask = length_mask(lengths, read.shape[1])[:, None].expand(-1, read.shape[1], -1)
        x = read
        if self.config.form == "ar":
            before = F.pad(read, (0, 0, 1, 0))[:, :-1]
            x = self.join(torch.cat([self.previous(previous), before], dim=-1))
            mask = mask & torch.ones_like(mask[0]).tril()
        # Rows of padding still need one visible key, or their softmax is not a number.
        mask = mask | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, mask, linguistic if number in self.config.linguistic_blocks else visual)
        if self.config.form == "ar":
            x = self.meet(torch.cat([x, read], dim=-1))
        return self.out(self.norm(x))
