"""The speech encoder (paper A.3, FACTS 3): 2-D convolution, conformer blocks, max-pooling on the way to 80 ms.

The convolution halves 10 ms frames to 20 ms; a max-pool after each of `pool_after` halves again, so the paper's
18 blocks with pools after 6 and 12 end at 1/8 rate. Positions enter by rotation (RoPE) and the convolution module
is normalised by LayerNorm, so nothing depends on the rest of the batch: batched output equals single output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xllm.config import SpeechEncoderConfig


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Return [B, size] bool, true where a position is real: index < lengths [B]."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class RotarySelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions: [B, U, D] -> [B, U, D]."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width} is not a multiple of twice the {heads} heads")
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`mask` [B, U] is true at real positions, or [B, U, U] where a position may see another."""
        batch, size, width = x.shape
        q, k, v = self.qkv(x).view(batch, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        half = width // self.heads // 2
        rate = 10000.0 ** (-torch.arange(half, device=x.device) / half)
        angle = torch.arange(size, device=x.device)[:, None] * rate
        cos, sin = angle.cos().to(q.dtype), angle.sin().to(q.dtype)

        def rotate(t: Tensor) -> Tensor:
            a, b = t[..., :half], t[..., half:]
            return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)

        mixed = F.scaled_dot_product_attention(
            rotate(q),
            rotate(k),
            v,
            attn_mask=mask[:, None, None] if mask.dim() == 2 else mask[:, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, size, width))


class Convolution(nn.Module):
    """The conformer's convolution module: gate, depthwise convolution over time, project. [B, U, D] -> same."""

    def __init__(self, width: int, kernel: int, dropout: float):
        super().__init__()
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = F.glu(self.gate(x), dim=-1) * mask[..., None]
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.out(F.silu(self.norm(x))))


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, each with its norm and residual."""

    def __init__(self, config: SpeechEncoderConfig):
        super().__init__()
        width, dropout = config.width, config.dropout
        self.ffn = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, config.ffn),
                nn.SiLU(),
                nn.Linear(config.ffn, width),
                nn.Dropout(dropout),
            )
            for _ in range(2)
        )
        self.attention_norm = nn.LayerNorm(width)
        self.attention = RotarySelfAttention(width, config.heads, dropout)
        self.attention_dropout = nn.Dropout(dropout)
        self.convolution_norm = nn.LayerNorm(width)
        self.convolution = Convolution(width, config.kernel, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + 0.5 * self.ffn[0](x)
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), mask))
        x = x + self.convolution(self.convolution_norm(x), mask)
        return self.norm(x + 0.5 * self.ffn[1](x))


class SpeechEncoder(nn.Module):
    """Fbank in, encoder frames out; each step of the rate rounds up, so one frame in gives one frame out."""

    def __init__(self, config: SpeechEncoderConfig):
        super().__init__()
        self.config = config
        self.subsample = nn.Conv2d(1, config.channels, 3, stride=2, padding=1)
        self.project = nn.Linear(config.channels * ((config.mels + 1) // 2), config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.blocks))

    @property
    def rate(self) -> int:
        """Fbank frames per encoder frame: 8 for two pools."""
        return 2 ** (1 + len(self.config.pool_after))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode normalised fbank [B, F, mels] of `lengths` [B] frames.

        Returns hidden [B, U, D], zero beyond its lengths, and lengths [B], U = ceil(F / rate).
        Raises ValueError when the number of bins is not the configured one.
        """
        if features.shape[-1] != self.config.mels:
            raise ValueError(f"features have {features.shape[-1]} bins, the encoder expects {self.config.mels}")
        features = features * length_mask(lengths, features.shape[1])[..., None]
        x = F.relu(self.subsample(features[:, None]))
        x = self.dropout(self.project(x.permute(0, 2, 1, 3).flatten(2)))
        lengths = (lengths + 1) // 2
        mask = length_mask(lengths, x.shape[1])
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, mask)
            if number in self.config.pool_after:
                # Padding must not win the maximum of a last, half-real pair.
                x = x.masked_fill(~mask[..., None], float("-inf")).transpose(1, 2)
                x = F.max_pool1d(x, 2, ceil_mode=True).transpose(1, 2)
                lengths = (lengths + 1) // 2
                mask = length_mask(lengths, x.shape[1])
                x = x.masked_fill(~mask[..., None], 0.0)
        return x * mask[..., None], lengths
