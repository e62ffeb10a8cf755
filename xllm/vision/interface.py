"""The image and the video interface (paper 3.1, stage 2): a Q-Former and a linear adapter.

Learned queries look at the patches of one picture through cross-attention in every second layer; the I-Adapter (or
V-Adapter) is one linear layer into the LLM's embedding space. A film is its frames, one after another. Both are this
class: the video interface begins as a copy of the trained image interface and is then trained apart.

Where no pretrained Q-Former is at hand, each query can begin as one character of what stage 0 calls the picture
(`draft`): as the speech interface reads the recogniser, this one reads the encoder's classifier. In a film the query
after the name begins as what happens to the thing (`motion`).
"""

import torch
from torch import Tensor, nn

from xllm.config import VisionInterfaceConfig
from xllm.vision.motion import Motion, after
from xllm.vision.naming import Naming


class VisionInterface(nn.Module):
    """Patch tokens of T pictures to T x Q embeddings."""

    def __init__(
        self,
        config: VisionInterfaceConfig,
        encoder_width: int,
        llm_width: int,
        names: Tensor | None = None,
        characters: int = 0,
        frames: int = 1,
        patches: int = 0,
    ):
        """With `config.draft`, `names` [C, K] are what pictures may be called, ids of `characters`.

        With `config.motion` beside it, films are of up to `frames` pictures of `patches` tokens.
        """
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
        if config.draft:
            self.register_buffer("names", names, persistent=False)
            self.naming = Naming(encoder_width, characters)
            self.enter = nn.Linear(characters, config.width)
            if config.motion and frames > 1:
                self.motion = Motion(encoder_width, patches, frames, config.width)
        self.adapter = nn.Linear(config.width, llm_width)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens [B, T, N, D] of `lengths` [B] pictures -> embeddings [B, T * Q, D_llm] and lengths * Q."""
        films, frames = tokens.shape[:2]
        queries = self.queries.expand(films, frames, -1, -1)
        if self.config.draft:
            # A film is of one thing, and some of its frames show it better than others.
            there = torch.arange(frames, device=tokens.device) < lengths[:, None]  # [B, T]
            named = (tokens * there[..., None, None]).sum(1) / lengths[:, None, None]
            read = self.naming.read(named, self.names, self.config.queries)
            queries = queries + self.enter(read)[:, None]
            if hasattr(self, "motion"):
                ends = after(read[..., 0])[:, None, :, None]
                queries = queries + ends * self.motion(tokens, there)[:, :, None]
        seen = self.qformer(query_embeds=queries.flatten(0, 1), encoder_hidden_states=tokens.flatten(0, 1))
        embeddings = self.adapter(seen.last_hidden_state)
        return embeddings.reshape(films, frames * self.config.queries, -1), lengths * self.config.queries
