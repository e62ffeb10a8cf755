"""The published encoders of multimodal recognition (paper A.3): CLIP's vision transformer, and a BERT for captions."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from xllm.config import CaptionEncoderConfig, ContextConfig, VisionEncoderConfig
from xllm.errors import ConfigError
from xllm.speech.conformer import length_mask
from xllm.trust import loading
from xllm.vision.encoder import VisionEncoder

logger = logging.getLogger(__name__)


class CaptionEncoder(nn.Module):
    """Captions to the last hidden states of a BERT, class and separator tokens included."""

    def __init__(self, name: str, bert: nn.Module, tokenizer):
        super().__init__()
        self.name, self.bert, self.tokenizer = name, bert, tokenizer
        self.bert.pooler = None  # of the class token alone, for classifiers

    @classmethod
    def load(cls, config: CaptionEncoderConfig) -> "CaptionEncoder":
        """Raises ConfigError when the model cannot be had, or lacks weights."""
        from transformers import AutoModel, AutoTokenizer

        with loading(f"context.linguistic.name {config.name!r}"):
            tokenizer = AutoTokenizer.from_pretrained(config.name, revision=config.revision, trust_remote_code=False)
            bert, found = AutoModel.from_pretrained(
                config.name,
                revision=config.revision,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                weights_only=True,
            )
        if missing := [name for name in found["missing_keys"] if not name.startswith("pooler.")]:
            raise ConfigError(f"context.linguistic.name {config.name!r} has no weights for {min(missing)}")
        return cls(config.name, bert, tokenizer)

    @property
    def width(self) -> int:
        """D."""
        return self.bert.config.hidden_size

    def forward(self, captions: Sequence[str]) -> list[Tensor]:
        """[N, D] of each caption; of one that is longer than the model reads, the beginning, which is said."""
        longest = min(self.bert.config.max_position_embeddings, self.tokenizer.model_max_length)
        rows = self.tokenizer(list(captions))["input_ids"]
        if max(map(len, rows)) > longest:
            logger.warning("a caption is longer than the %d tokens that %s reads: its end is cut", longest, self.name)
            rows = [ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]] for ids in rows]
        device = self.bert.device
        sizes = torch.tensor([len(ids) for ids in rows], device=device)
        ids = pad_sequence([torch.tensor(ids, device=device) for ids in rows], batch_first=True)
        hidden = self.bert(input_ids=ids, attention_mask=length_mask(sizes, ids.shape[1]).long()).last_hidden_state
        return [row[:size] for row, size in zip(hidden, sizes.tolist(), strict=True)]


class ContextEncoders(nn.Module):
    """The published encoders of a system's context: frozen, and named in its checkpoints, not copied into them."""

    def __init__(self, visual: VisionEncoder | None, linguistic: CaptionEncoder | None):
        super().__init__()
        self.visual, self.linguistic = visual, linguistic

    @classmethod
    def load(cls, config: ContextConfig) -> "ContextEncoders":
        """With their published weights. Raises ConfigError when one cannot be had."""
        visual = config.visual and VisionEncoder(VisionEncoderConfig(name=config.visual, pretrained=True))
        return cls(visual, config.linguistic and CaptionEncoder.load(config.linguistic))
