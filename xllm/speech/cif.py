"""Continuous integrate-and-fire (paper 3.2.1; Dong and Xu, 2020): encoder frames in, one vector a token out.

Each frame carries a weight alpha. With `c` the running sum of the weights, token `i` is the integral of the
frames over [i, i + 1]: `out_i = sum_t |[c_(t-1), c_t] ∩ [i, i + 1]| * h_t`. Cutting every frame's interval
[c_(t-1), c_t] at the integers inside it gives at most U + L pieces, sorted by frame and by token at once.
The list is a sparse L x U matrix: times the frames it is the forward pass, its transpose is the backward.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Below this sum of weights there is nothing to scale up: gradients would explode as N / sum.
MIN_QUANTITY = 1e-4
# A token begins to matter where a tenth of its weight is in; after a pause that is where speech resumes.
START_WEIGHT = 0.1


class CIFOutput(NamedTuple):
    """Token vectors and where they come from. Positions: encoder frames (80 ms), fractional, from 0."""

    embeddings: Tensor  # [B, L, D] in the features' dtype, zeros beyond lengths
    lengths: Tensor  # [B] int64
    starts: Tensor  # [B, L] float32, where the running sum passes i + 0.1; zeros beyond lengths, no gradient
    fires: Tensor  # [B, L] float32, where the running sum passes i + 1; zeros beyond lengths, no gradient
    quantity: Tensor  # [B] float32, sum of the unscaled weights, for the quantity loss |quantity - N|


class _Pieces(NamedTuple):
    """The P pieces of a batch, in order. Flat indices: frame b * U + t, token b * L + i."""

    frame: Tensor  # [P]
    token: Tensor  # [P]
    weight: Tensor  # [P] length of the piece, 0 when its token does not exist
    real: Tensor  # [P] whether its token exists
    of_frame: Tensor  # [B * U] a frame's first piece
    of_token: Tensor  # [B * L] a token's first piece


def _cut(sums: Tensor, levels: Tensor, lengths: Tensor, slots: int) -> _Pieces:
    """Cut frames at the integers; `sums`, `levels` [B, U+1]: the running sum at each edge, its token."""
    batch, frames = len(sums), sums.shape[1] - 1
    count = (levels.diff(dim=1) + 1).flatten()
    end = count.cumsum(0)
    of_frame = end - count
    frame = torch.repeat_interleave(count)
    first = (levels[:, :-1].flatten() - of_frame)[frame]
    level = first + torch.arange(len(frame), device=sums.device)
    row = frame // frames
    edge = frame + row  # in flat sums: every row has one more edge than frames
    flat = sums.flatten()
    weight = flat[edge + 1].minimum(level + 1) - flat[edge].maximum(level)
    real = level < lengths[row]
    token = row * slots + level.clamp(max=slots - 1)
    of_token = torch.searchsorted(token, torch.arange(batch * slots, device=sums.device))
    return _Pieces(frame, token, weight.masked_fill(~real, 0.0), real, of_frame, of_token)


class _Integrate(torch.autograd.Function):
    """hidden [B, U, D], sums [B, U+1] -> [B, L, D]. First-order gradients; no U x D product is formed."""

    @staticmethod
    def forward(ctx, hidden: Tensor, sums: Tensor, levels: Tensor, lengths: Tensor, slots: int) -> Tensor:
        batch, frames, width = hidden.shape
        pieces = _cut(sums, levels, lengths, slots)
        pieces = pieces._replace(weight=pieces.weight.to(hidden.dtype))
        rows = hidden.reshape(batch * frames, width)
        ctx.save_for_backward(rows, *pieces)
        ctx.shape, ctx.sums_dtype = hidden.shape, sums.dtype
        return F.embedding_bag(pieces.frame, rows, pieces.of_token, mode="sum", per_sample_weights=pieces.weight).view(
            batch, slots, width
        )

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        rows, *pieces = ctx.saved_tensors
        pieces = _Pieces(*pieces)
        batch, frames, width = ctx.shape
        grad = grad.reshape(-1, width)
        grad_hidden = grad_sums = None
        if ctx.needs_input_grad[0]:
            grad_hidden = F.embedding_bag(
                pieces.token, grad, pieces.of_frame, mode="sum", per_sample_weights=pieces.weight
            ).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            # One dot product per piece, grad[token] . rows[frame], without gathering either.
            dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(
                grad, rows, pieces.frame, pieces.of_token, pieces.token, 0
            )
            dots = torch.where(pieces.real, dots, 0.0).to(ctx.sums_dtype)
            # An edge between two frames ends the last piece of one and starts the first piece of the next.
            last = torch.cat([pieces.of_frame[1:], pieces.of_frame.new_tensor([len(dots)])]) - 1
            grad_sums = F.pad(dots[last].view(batch, frames), (1, 0))
            grad_sums[:, :-1] -= dots[pieces.of_frame].view(batch, frames)
        return grad_hidden, grad_sums, None, None, None


def _position(sums: Tensor, level: Tensor) -> Tensor:
    """Where `sums` [B, U+1] first reach `level` [B, L]: [B, L] in frames, linear inside a frame."""
    edge = torch.searchsorted(sums, level)
    before = (edge - 1).clamp(min=0)
    low, high = sums.gather(1, before), sums.gather(1, edge)
    # Only a level of 0, in a row without any weight, meets low == high.
    return before + (level - low) / (high - low).clamp(min=torch.finfo(sums.dtype).tiny)


def integrate_and_fire(
    hidden: Tensor, alphas: Tensor, *, targets: Tensor | None = None, tail_threshold: float = 0.5
) -> CIFOutput:
    """Integrate frames `hidden` [B, U, D] under weights `alphas` [B, U] (>= 0, 0 on padding) into tokens.

    With `targets` [B] (int64, training) the weights of each row are scaled to sum to N, and exactly N tokens
    fire. Without, a token fires each time the running sum reaches an integer, and what remains at the end
    fires too, divided by its weight, when that is more than `tail_threshold`: at the end of the last frame
    that has any weight. A frame may fire several times; a row may have no token.

    Weights and their running sum are float64 (float32 on mps, which has no float64), whatever the autocast:
    a float32 sum moves a fire in every second long utterance. Half-precision features are integrated in
    float32 and the tokens returned in the features' dtype. Gradients are of first order.

    Raises ValueError when the shapes do not agree, or for weights that are negative or not finite.
    """
    if alphas.shape != hidden.shape[:2]:
        raise ValueError(f"alphas {tuple(alphas.shape)} do not match the frames {tuple(hidden.shape[:2])}")
    if targets is not None and targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets {tuple(targets.shape)} do not match a batch of {hidden.shape[0]}")
    if not ((alphas >= 0) & (alphas < torch.inf)).all():
        raise ValueError("alphas must be finite and not negative")
    with torch.autocast(hidden.device.type, enabled=False):
        exact = torch.float32 if hidden.device.type == "mps" else torch.float64
        sums = F.pad(alphas.to(exact).cumsum(1), (1, 0))
        quantity = sums[:, -1]
        if targets is None:
            levels = sums.detach().floor().long()
            full = levels[:, -1]
            rest = quantity - full
            lengths = full + (rest.detach() > tail_threshold)
        else:
            sums = sums * (targets / quantity.clamp(min=MIN_QUANTITY))[:, None]
            lengths = targets.long()
            # The last token takes all that is left: whether the sum is N or a rounding below does not matter.
            levels = sums.detach().floor().long().minimum((lengths - 1).clamp(min=0)[:, None])
        slots = int(lengths.max())
        if slots == 0:
            nothing = hidden.new_zeros(len(hidden), 0, dtype=torch.float32)
            return CIFOutput(hidden[:, :0], lengths, nothing, nothing, quantity.float())

        features = hidden if hidden.dtype == torch.float64 else hidden.float()
        embeddings = _Integrate.apply(features, sums, levels, lengths, slots)
        index = torch.arange(slots, device=hidden.device)
        if targets is None:
            is_tail = (index == full[:, None]) & (index < lengths[:, None])
            embeddings = embeddings / torch.where(is_tail, rest[:, None], 1.0).to(embeddings.dtype)[..., None]

        sums = sums.detach()
        mask = index < lengths[:, None]
        starts, fires = (
            _position(sums, (index + weight).to(exact).minimum(sums[:, -1:])).float() * mask
            for weight in (START_WEIGHT, 1.0)
        )
        return CIFOutput(embeddings.to(hidden.dtype), lengths, starts, fires, quantity.float())


class CIF(nn.Module):
    """The weight predictor, `sigmoid(linear(relu(conv(h))))`, then integrate-and-fire (paper A.3).

    width: D of the frames; channels: of the convolution (512); kernel: in frames (5), odd.
    """

    def __init__(self, width: int, channels: int, kernel: int = 5):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd to keep the number of frames, got {kernel}")
        self.conv = nn.Conv1d(width, channels, kernel, padding=kernel // 2)
        self.weight = nn.Linear(channels, 1)

    def weights(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Weights alpha [B, U], float32, of frames hidden [B, U, D]; 0 beyond `lengths` [B]."""
        padding = torch.arange(hidden.shape[1], device=hidden.device) >= lengths[:, None]
        hidden = hidden.masked_fill(padding[..., None], 0.0)
        # Out of autocast: weights rounded to bfloat16 would fire elsewhere than the same weights in float32.
        with torch.autocast(hidden.device.type, enabled=False):
            inner = self.conv(hidden.to(self.conv.weight.dtype).transpose(1, 2)).relu()
            alphas = self.weight(inner.transpose(1, 2)).squeeze(-1).float().sigmoid()
        return alphas.masked_fill(padding, 0.0)

    def forward(self, hidden: Tensor, lengths: Tensor, targets: Tensor | None = None) -> CIFOutput:
        """Frames hidden [B, U, D], their number `lengths` [B], in training tokens `targets` [B] -> CIFOutput.

        What lies in the padding has no influence. Raises ValueError as `integrate_and_fire` does.
        """
        # A weight of 0 does not silence a frame that is not finite, as a row without any frame may leave behind.
        padding = torch.arange(hidden.shape[1], device=hidden.device) >= lengths[:, None]
        hidden = hidden.masked_fill(padding[..., None], 0.0)
        return integrate_and_fire(hidden, self.weights(hidden, lengths), targets=targets)
