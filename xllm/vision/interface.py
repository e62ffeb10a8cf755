"""The image and the video interface (paper 3.1, stage 2): a Q-Former and a linear adapter.

Learned queries look at the patches of one picture through cross-attention in every second layer; the I-Adapter (or
V-Adapter) is one linear layer into the LLM's embedding space. A film is its frames, one after another. Both are this
class: the video interface begins as a copy of the trained image interface and is then trained apart.
"""

import torch
from torch import Tensor, nn

from xllm.config import VisionInterfaceConfig


class VisionInterface(nn.Module):
    """Patch tokens of T pictures to T x Q embeddings."""

    def __init__(self, config: VisionInterfaceConfig, encoder_width: int, llm_width: int):
        super().__init__()
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        self.config = config
        # The query branch only: without text input there are no word embeddings and no text feed-forward.
        self.qformer = Blip2QFormerModel(
            Blip2QFormerConfig(
                vocab_size=1,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.ffn,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                encoder_hidden_size=encoder_width,
                cross_attention_frequency=2,
            )
        )
        self.queries = nn.Parameter(torch.empty(1, config.queries, config.width).normal_(std=0.02))
        self.adapter = nn.Linear(config.width, llm_width)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens [B, T, N, D] of `lengths` [B] pictures -> embeddings [B, T * Q, D_llm] and lengths * Q."""
        batch, frames = tokens.shape[:2]
        seen = self.qformer(
            query_embeds=self.queries.expand(batch * frames, -1, -1), encoder_hidden_states=tokens.flatten(0, 1)
        ).last_hidden_state
        embeddings = self.adapter(seen)
        return embeddings.reshape(batch, -1, embeddings.shape[-1]), lengths * self.config.queries
