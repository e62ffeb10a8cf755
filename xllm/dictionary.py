"""How an interface begins that has no pretrained transformer: as a dictionary from characters to LLM embeddings."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def begin_with(enter: nn.Linear, adapter: nn.Linear, table: Tensor) -> None:
    """Let `enter` look up `table` [V, D_llm], the LLM's embedding of each character, and `adapter` scale it back.

    A BERT between them starts close to the identity, so this is enough; training adds the context. Nothing is done
    where the interface is not as wide as the LLM.
    """
    if table.shape[1] != enter.out_features:
        return
    scale = table.std(dim=1, keepdim=True).clamp(min=1e-6)
    enter.weight.copy_((table / scale).T)
    enter.bias.zero_()
    adapter.weight.copy_(torch.eye(table.shape[1]) * scale.mean())
    adapter.bias.zero_()
