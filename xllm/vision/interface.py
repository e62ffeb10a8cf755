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
                # BERT's 0.02 is meant for wider layers: in narrow ones what is seen would hardly reach the queries.
                initializer_range=config.width**-0.5,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                encoder_hidden_size=encoder_width,
                cross_attention_frequency=2,
            )
        )
        self.queries = nn.Parameter(torch.empty(1, config.queries, config.width).normal_(std=0.02))
        self.adapter = nn.Linear(config.width, llm_width)

    @torch.no_grad()
    def begin_near(self, table: Tensor) -> None:
        """Start from embeddings that are spread as those of a text are: `table` [V, D_llm], the LLM's own.

        They differ little from their mean, and a random adapter would start far away from all of them.
        """
        mean = table.mean(0)
        self.adapter.bias.copy_(mean)
        self.adapter.weight.normal_(std=float((table - mean).square().mean().sqrt()) / self.config.width**0.5)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens [B, T, N, D] of `lengths` [B] pictures -> embeddings [B, T * Q, D_llm] and lengths * Q."""
        batch, frames = tokens.shape[:2]
        seen = self.qformer(
            query_embeds=self.queries.expand(batch * frames, -1, -1), encoder_hidden_states=tokens.flatten(0, 1)
        ).last_hidden_state
        embeddings = self.adapter(seen)
        return embeddings.reshape(batch, -1, embeddings.shape[-1]), lengths * self.config.queries
