"""Whisper's decoder blocks as the recogniser's decoder: a Paraformer made of Whisper.

The blocks keep what they have learned, above all to attend to encoder frames. They lose the causal mask, and read
CIF's vectors where Whisper reads the tokens before: all characters are written at once (the idea of Paraformer, Gao et
al. 2022). Blocks may attend to visual and linguistic features, too (paper A.3).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xllm.config import DecoderConfig
from xllm.speech.decoder import CrossAttention, Foreign
from xllm.speech.units import UNKNOWN, Units, syllable_parts
from xllm.speech.whisper import key_mask, load_whisper
from xllm.trust import loading

PROMPT = 4  # tokens that begin each of Whisper's answers: language, task and their like; text begins behind them
SPREAD = 0.7  # of the mean embedding of a character's tokens, where they are several: one row of less weight
FEW = 0.02  # deviation of the rows of units that Whisper has no tokens for


class WhisperBlock(nn.Module):
    """One of Whisper's decoder blocks, then attention to what else is beside speech."""

    def __init__(self, layer: nn.Module, cross: CrossAttention | None):
        super().__init__()
        self.layer, self.cross = layer, cross
        layer.self_attn.is_causal = False

    def forward(self, x: Tensor, mask: Tensor, frames: Tensor, frame_mask: Tensor, foreign: Foreign | None) -> Tensor:
        x = self.layer(x, attention_mask=mask, encoder_hidden_states=frames, encoder_attention_mask=frame_mask)
        x = x[0] if isinstance(x, tuple) else x
        return x if self.cross is None else self.cross(x, foreign)


class Sounds(nn.Module):
    """What characters share that sound alike: logits [..., V] from [..., D], of initials, finals, tones, syllables.

    Thousands of characters are rare; what is heard when one of them is said is learned from all those like it.
    """

    def __init__(self, width: int, readings: Sequence[Sequence[str]]):
        super().__init__()
        parts = [[(*syllable_parts(s), s[:-1]) for s in syllables] for syllables in readings]
        names = sorted({part for several in parts for made_of in several for part in made_of})
        number = {name: i for i, name in enumerate(names)}
        made = torch.zeros(len(names), len(readings))
        for character, several in enumerate(parts):
            for made_of in several:
                made[[number[part] for part in made_of], character] += 1.0 / len(several)
        self.register_buffer("made", made, persistent=False)
        self.parts = nn.Linear(width, len(names))
        nn.init.zeros_(self.parts.weight)
        nn.init.zeros_(self.parts.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.parts(x), self.made.T)


class WhisperDecoder(nn.Module):
    """CIF vectors [B, L, D] and the encoder's frames, as wide, to character logits [B, L, V]; `Decoder`'s face."""

    def __init__(self, config: DecoderConfig, units: Units):
        """Of the configured sizes, with the weights of `pretrained` if that is set.

        Rows of the output layer begin as the mean of the character's token embeddings. Raises ConfigError when the
        weights cannot be had, or are of other sizes.
        """
        super().__init__()
        self.config = config
        sizes = {
            "d_model": config.width,
            "decoder_layers": config.blocks,
            "decoder_attention_heads": config.heads,
            "decoder_ffn_dim": config.ffn,
        }
        rest = {} if config.pretrained else {"encoder_layers": 0}
        whisper = load_whisper(config.pretrained, "decoder.pretrained", **sizes, **rest).decoder
        self.read = nn.Linear(config.width, config.width)
        nn.init.eye_(self.read.weight)  # CIF's vectors are averages of what the blocks attend to
        nn.init.zeros_(self.read.bias)
        self.positions = nn.Parameter(whisper.embed_positions.weight.detach()[PROMPT:].clone())
        foreign = {n: config.visual_width for n in config.visual_blocks}
        foreign |= {n: config.linguistic_width for n in config.linguistic_blocks}
        self.blocks = nn.ModuleList(
            WhisperBlock(
                layer,
                CrossAttention(config.width, config.heads, foreign[n], config.dropout) if n in foreign else None,
            )
            for n, layer in enumerate(whisper.layers, start=1)
        )
        for block in self.blocks:
            block.layer.dropout = config.dropout
        self.norm = whisper.layer_norm
        self.out = nn.Linear(config.width, len(units.characters))
        self.sounds = Sounds(config.width, units.readings) if units.readings else None
        if config.pretrained:
            self._begin_with_tokens(whisper.embed_tokens.weight.detach(), units.characters)

    @torch.no_grad()
    def _begin_with_tokens(self, rows: Tensor, characters: Sequence[str]) -> None:
        from transformers import PreTrainedTokenizerFast

        with loading(f"decoder.pretrained {self.config.pretrained!r}"):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(self.config.pretrained, trust_remote_code=False)
        nn.init.normal_(self.out.weight, std=FEW)
        nn.init.zeros_(self.out.bias)
        for number, character in enumerate(characters[UNKNOWN + 1 :], start=UNKNOWN + 1):
            ids = tokenizer.encode(character, add_special_tokens=False)
            self.out.weight[number] = rows[ids[0]] if len(ids) == 1 else SPREAD * rows[ids].mean(0)

    def from_cif(self, embeddings: Tensor) -> tuple[Tensor, None]:
        """CIF vectors [B, L, D] -> what the blocks read [B, L, D]; there are no syllables."""
        return self.read(embeddings), None

    def forward(
        self,
        read: Tensor,
        lengths: Tensor,
        previous: None = None,
        visual: Foreign | None = None,
        linguistic: Foreign | None = None,
        *,
        frames: Foreign,
    ) -> Tensor:
        """Return logits [B, L, V] for vectors `read` [B, L, D] of `lengths` [B] and the encoder's `frames`.

        `visual` and `linguistic` features are zero when absent. `previous` characters are not read.
        """
        place = torch.arange(read.shape[1], device=read.device).clamp(max=len(self.positions) - 1)
        x = F.dropout(read + self.positions[place], self.config.dropout, self.training)
        mask, frame_mask = key_mask(lengths, read.shape[1]), key_mask(frames.lengths, frames.features.shape[1])
        for number, block in enumerate(self.blocks, start=1):
            foreign = linguistic if number in self.config.linguistic_blocks else visual
            x = block(x, mask, frames.features, frame_mask, foreign)
        x = self.norm(x)
        return self.out(x) if self.sounds is None else self.out(x) + self.sounds(x)
