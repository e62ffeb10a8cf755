"""Whisper's encoder (Radford et al., 2023) in place of the conformer, at CIF's rate.

Whisper hears windows of 30 seconds, silence included, at 20 ms a frame. Every utterance is heard as it was taught,
alone in its windows, so that nothing depends on the rest of a batch; four frames side by side become one of 80 ms
(FACTS 2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xllm.config import SpeechEncoderConfig
from xllm.errors import ConfigError
from xllm.speech.conformer import length_mask
from xllm.trust import loading

WINDOW = 3000  # fbank frames that Whisper hears at once
STRIDE, STACK = 2, 4  # fbank frames a frame of Whisper's, and those a frame of ours


class WhisperEncoder(nn.Module):
    """Whisper's encoder and a linear layer over stacks of its frames; the same face as `SpeechEncoder`."""

    rate = STRIDE * STACK  # fbank frames per encoder frame

    def __init__(self, config: SpeechEncoderConfig):
        """Of the configured sizes, with the weights of `pretrained` if that is set.

        Raises ConfigError when these cannot be had, or are of other sizes.
        """
        super().__init__()
        from transformers import WhisperConfig, WhisperModel

        sizes = {
            "d_model": config.width,
            "encoder_layers": config.blocks,
            "encoder_attention_heads": config.heads,
            "encoder_ffn_dim": config.ffn,
            "num_mel_bins": config.mels,
        }
        if config.pretrained is None:
            one = {"vocab_size": 1, "decoder_layers": 0, "pad_token_id": 0}  # a decoder of nothing
            whole = WhisperModel(WhisperConfig(**sizes, **one))
        else:
            with loading(f"encoder.pretrained {config.pretrained!r}"):
                whole = WhisperModel.from_pretrained(
                    config.pretrained, dtype=torch.float32, trust_remote_code=False, weights_only=True
                )
        if different := {k: getattr(whole.config, k) for k, v in sizes.items() if getattr(whole.config, k) != v}:
            raise ConfigError(f"encoder.pretrained {config.pretrained!r} has {different}, the recipe other sizes")
        self.config = config
        self.whisper = whole.encoder
        self.reduce = nn.Linear(STACK * config.width, config.width)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode Whisper's log-mel [B, F, mels] of `lengths` [B] frames.

        Returns hidden [B, U, D], zero beyond its lengths, and lengths [B], U = ceil(F / rate).
        Raises ValueError when the number of bins is not the configured one.
        """
        batch, size, mels = features.shape
        if mels != self.config.mels:
            raise ValueError(f"features have {mels} bins, the encoder expects {self.config.mels}")
        windows = -(-size // WINDOW)
        features = F.pad(features, (0, 0, 0, windows * WINDOW - size))
        real = length_mask(lengths, features.shape[1])[..., None]
        loudest = features.masked_fill(~real, float("-inf")).amax((1, 2), keepdim=True)
        # Silence as Whisper's features have it: the floor of a logarithm, or 8 decades below the loudest.
        features = torch.where(real, features, (loudest - 2.0).clamp(min=-1.5))
        heard = self.whisper(features.reshape(-1, WINDOW, mels).transpose(1, 2)).last_hidden_state
        hidden = self.reduce(heard.reshape(batch, -1, STACK * self.config.width))
        lengths = -(-lengths // self.rate)
        hidden = hidden[:, : -(-size // self.rate)]
        return hidden * length_mask(lengths, hidden.shape[1])[..., None], lengths
