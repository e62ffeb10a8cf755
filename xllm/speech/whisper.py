"""Whisper's encoder (Radford et al., 2023) in place of the conformer, at 40 ms a frame.

Whisper was taught windows of 30 seconds, mostly silence. It hears an utterance as well on its own length with half a
second of silence behind it, in a tenth of the time (FACTS 12); two of its frames, averaged, become one of 40 ms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xllm.config import SpeechEncoderConfig
from xllm.errors import ConfigError
from xllm.speech.conformer import length_mask
from xllm.trust import loading

WINDOW = 3000  # fbank frames for which Whisper has positions; longer utterances are cut into such windows
SILENCE = 50  # fbank frames behind an utterance: without any, Whisper's last frames are of no use
STRIDE, POOL = 2, 2  # fbank frames a frame of Whisper's, and frames of Whisper's one of ours


def load_whisper(pretrained: str | None, key: str, **sizes: int) -> nn.Module:
    """transformers' WhisperModel of `sizes`, with the weights of `pretrained` if given.

    Raises ConfigError, naming the recipe's `key`, when these cannot be had, or are of other sizes.
    """
    from transformers import WhisperConfig, WhisperModel

    if pretrained is None:
        tokens = dict.fromkeys((f"{name}_token_id" for name in ("pad", "bos", "eos", "decoder_start")), 0)
        return WhisperModel(WhisperConfig(vocab_size=1, **tokens, **sizes))
    with loading(f"{key} {pretrained!r}"):
        whole = WhisperModel.from_pretrained(
            pretrained, dtype=torch.float32, trust_remote_code=False, weights_only=True
        )
    if different := {k: getattr(whole.config, k) for k, v in sizes.items() if getattr(whole.config, k) != v}:
        raise ConfigError(f"{key} {pretrained!r} has {different}, the recipe other sizes")
    return whole


def key_mask(lengths: Tensor, size: int) -> Tensor:
    """For attention [B, heads, queries, keys]: 0 for the keys within `lengths` [B], and always the first; else -inf."""
    seen = length_mask(lengths.clamp(min=1), size)
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, float("-inf"))[:, None, None]


class WhisperEncoder(nn.Module):
    """Whisper's encoder and an average over pairs of its frames; the same face as `SpeechEncoder`.

    What its frozen layers make of an utterance can be computed once: `lower` goes as far as `depth`, and `forward`
    goes on from there. Depth 0 is before the convolutions, 1 behind them, then one more a layer; `whole` is the end.
    """

    rate = STRIDE * POOL  # fbank frames per encoder frame

    def __init__(self, config: SpeechEncoderConfig):
        """Of the configured sizes, with the weights of `pretrained` if that is set.

        Raises ConfigError when these cannot be had, or are of other sizes.
        """
        super().__init__()
        sizes = {
            "d_model": config.width,
            "encoder_layers": config.blocks,
            "encoder_attention_heads": config.heads,
            "encoder_ffn_dim": config.ffn,
            "num_mel_bins": config.mels,
        }
        nothing = {} if config.pretrained else {"decoder_layers": 0}
        self.config = config
        self.whisper = load_whisper(config.pretrained, "encoder.pretrained", **sizes, **nothing).encoder
        self.whole = config.blocks + 2

    @property
    def frozen(self) -> int:
        """The depth up to which nothing trains."""
        moves = [any(p.requires_grad for p in level.parameters()) for level in self._levels]
        return moves.index(True) if True in moves else self.whole

    @property
    def _levels(self) -> list[nn.Module]:
        """Of depth 1 and so on."""
        whisper = self.whisper
        return [
            nn.ModuleList([whisper.conv1, whisper.conv2, whisper.embed_positions]),
            *whisper.layers,
            whisper.layer_norm,
        ]

    def above(self, depth: int) -> set[str]:
        """Names of the parameters that states of this depth do not depend on."""
        found = {id(p) for level in self._levels[depth:] for p in level.parameters()}
        return {name for name, p in self.named_parameters() if id(p) in found}

    def forward(self, features: Tensor, lengths: Tensor, depth: int = 0) -> tuple[Tensor, Tensor]:
        """Encode Whisper's log-mel [B, F, mels] of `lengths` [B] frames, or what `lower` made of it.

        Returns hidden [B, U, D], zero beyond its lengths, and lengths [B]: of F frames ceil(F / rate).
        Raises ValueError when the number of bins is not the configured one.
        """
        return self.lower(features, lengths, self.whole, depth)

    def lower(self, x: Tensor, lengths: Tensor, depth: int, start: int = 0) -> tuple[Tensor, Tensor]:
        """From depth `start` to `depth`: x [B, W, width] of `lengths` [B], silence included between the two ends.

        Only from one end to the other may an utterance be longer than a window.
        """
        if start == 0:
            x, sizes = self._with_silence(x, lengths)
            batch, windows = len(x), -(-x.shape[1] // WINDOW)
            if windows > 1:
                x = F.pad(x, (0, 0, 0, windows * WINDOW - x.shape[1])).reshape(batch * windows, WINDOW, -1)
                ends = sizes[:, None] - WINDOW * torch.arange(windows, device=sizes.device)
                sizes = ends.clamp(0, WINDOW).flatten()
            x, sizes = self._convolve(x, sizes)
        else:
            batch, sizes = len(x), lengths
            lengths = STRIDE * sizes - SILENCE  # of an odd number of fbank frames one more: as many frames of ours
        if start < self.whole:
            mask = key_mask(sizes, x.shape[1])
            for layer in self.whisper.layers[max(0, start - 1) : max(0, depth - 1)]:
                x = layer(x, mask)
                x = x[0] if isinstance(x, tuple) else x
        if depth < self.whole:
            return x, sizes
        if start < self.whole:
            x = self.whisper.layer_norm(x).reshape(batch, -1, self.config.width)
            x = F.pad(x, (0, 0, 0, x.shape[1] % POOL)).unflatten(1, (-1, POOL)).mean(2)
            lengths = -(-lengths // self.rate)
        else:
            lengths = sizes
        x = x[:, : int(lengths.max())]
        return x * length_mask(lengths, x.shape[1])[..., None], lengths

    def _with_silence(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mels = features.shape[-1]
        if mels != self.config.mels:
            raise ValueError(f"features have {mels} bins, the encoder expects {self.config.mels}")
        features = F.pad(features, (0, 0, 0, SILENCE))
        real = length_mask(lengths, features.shape[1])[..., None]
        loudest = features.masked_fill(~real, float("-inf")).amax((1, 2), keepdim=True)
        # Silence as Whisper's features have it: the floor of a logarithm, or 8 decades below the loudest.
        return torch.where(real, features, (loudest - 2.0).clamp(min=-1.5)), lengths + SILENCE

    def _convolve(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """What lies beyond an utterance's size is 0, as where it ends alone."""
        mask = length_mask(sizes, x.shape[1])[:, None]
        x = F.gelu(self.whisper.conv1(x.transpose(1, 2) * mask)) * mask
        x = F.gelu(self.whisper.conv2(x)).transpose(1, 2)
        return x + self.whisper.embed_positions.weight[: x.shape[1]], -(-sizes // STRIDE)
