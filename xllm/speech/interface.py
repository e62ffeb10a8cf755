"""The speech interface (paper 3.1, stage 2): C-Former and S-Adapter.

The C-Former is the frozen CIF followed by a BERT transformer over its token-level vectors; the S-Adapter is one
linear layer into the LLM's embedding space. The recogniser's part (encoder, CIF) is applied before, once.
"""

import torch
from torch import Tensor, nn

from xllm.config import SpeechInterfaceConfig
from xllm.errors import ConfigError
from xllm.speech.conformer import length_mask
from xllm.trust import loading


class SpeechInterface(nn.Module):
    """Token vectors to LLM embeddings, one for one."""

    def __init__(self, config: SpeechInterfaceConfig, token_width: int, llm_width: int):
        """Raises ConfigError when the BERT that it begins from cannot be had, or is of other sizes."""
        super().__init__()
        from transformers import BertConfig, BertModel

        self.config = config
        if config.bert is None:
            self.bert = BertModel(
                BertConfig(
                    vocab_size=1,
                    hidden_size=config.width,
                    num_hidden_layers=config.layers,
                    num_attention_heads=config.heads,
                    intermediate_size=config.ffn,
                    hidden_dropout_prob=config.dropout,
                    attention_probs_dropout_prob=config.dropout,
                    max_position_embeddings=config.max_tokens,
                ),
                add_pooling_layer=False,
            )
        else:
            self.bert = _pretrained(config)
            # Words never enter: only positions, types and the transformer are used.
            self.bert.embeddings.word_embeddings = nn.Embedding(1, self.bert.config.hidden_size)
        width = self.bert.config.hidden_size
        self.enter = nn.Linear(token_width, width)
        self.adapter = nn.Linear(width, llm_width)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """token vectors [B, L, D] of `lengths` [B] -> embeddings [B, L, D_llm] and the same lengths.

        Raises ValueError when L exceeds BERT's positions.
        """
        if tokens.shape[1] > self.bert.config.max_position_embeddings:
            raise ValueError(
                f"{tokens.shape[1]} speech tokens, the C-Former has positions for "
                f"{self.bert.config.max_position_embeddings}"
            )
        if tokens.shape[1] == 0:
            return tokens.new_zeros(len(tokens), 0, self.adapter.out_features), lengths
        mask = length_mask(lengths, tokens.shape[1])
        mask = mask | (torch.arange(tokens.shape[1], device=mask.device) == 0)  # an empty row attends to its padding
        hidden = self.bert(inputs_embeds=self.enter(tokens), attention_mask=mask.long()).last_hidden_state
        return self.adapter(hidden), lengths


def _pretrained(config: SpeechInterfaceConfig) -> nn.Module:
    from transformers import BertModel

    with loading(f"speech.bert {config.bert!r}"):
        bert = BertModel.from_pretrained(
            config.bert, add_pooling_layer=False, trust_remote_code=False, weights_only=True
        )
    have = (bert.config.hidden_size, bert.config.num_hidden_layers, bert.config.max_position_embeddings)
    if have != (config.width, config.layers, config.max_tokens):  # a run's own weights are loaded by the recipe's sizes
        raise ConfigError(
            f"speech.bert {config.bert!r} has width, layers and positions {have}, the recipe says "
            f"{(config.width, config.layers, config.max_tokens)}"
        )
    return bert
