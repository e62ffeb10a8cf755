"""Key-value caches of two batches made into one, so that a batch can be filled up while it is at work."""

import torch
from torch import Tensor


def joinable(cache) -> bool:
    """Whether every layer keeps all keys and values, and nothing else (sliding windows and states do not)."""
    from transformers.cache_utils import DynamicLayer  # slow, and the recogniser alone needs none of it

    return all(type(layer) is DynamicLayer for layer in cache.layers)


def join(cache, mask: Tensor, other, other_mask: Tensor) -> Tensor:
    """Append the rows of `other` to `cache`, both `joinable`; returns the mask [B, L] of all rows.

    Columns that `mask` [B1, L1] and `other_mask` [B2, L2] leave out are squeezed out, as far as all rows allow.
    """
    size = int(torch.cat([mask.sum(1), other_mask.sum(1)]).max())
    (place, kept), (other_place, other_kept) = _last(mask, size), _last(other_mask, size)
    for layer, more in zip(cache.layers, other.layers, strict=True):
        layer.keys = torch.cat([_take(layer.keys, place), _take(more.keys, other_place)])
        layer.values = torch.cat([_take(layer.values, place), _take(more.values, other_place)])
    if hasattr(cache, "ends"):  # a prefix LM's, which count real tokens
        cache.ends = torch.cat([cache.ends, other.ends])
    return torch.cat([kept, other_kept])


def _last(mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Columns [B, size] of each row with the real ones last, in their order, and which of them are real."""
    mask = torch.nn.functional.pad(mask, (max(0, size - mask.shape[1]), 0))
    order = mask.long().argsort(dim=1, stable=True)[:, -size:]
    return order, mask.gather(1, order)


def _take(values: Tensor, place: Tensor) -> Tensor:
    """Of keys or values [B, H, L, D] the columns `place` [B, size], padded on the left like the mask."""
    values = torch.nn.functional.pad(values, (0, 0, max(0, place.shape[1] - values.shape[2]), 0))
    place = place.to(values.device)[:, None, :, None]
    return values.gather(2, place.expand(-1, values.shape[1], -1, values.shape[3]))
