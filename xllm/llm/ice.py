"""ChatGLM-6B's tokenizer: sentencepiece's `ice_text.model`, with line ends, tabs and runs of spaces as tokens."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xllm.errors import ConfigError

if TYPE_CHECKING:
    from xllm.llm.chatglm import ChatGLMConfig

LONGEST = 80  # spaces that are one token
SLIM = 130528  # tokens of the vocabulary without the 20,000 of images
IMAGES = 20000


class IceTokenizer:
    """Text to ids and back; prompts begin with nothing, and `[gMASK] <sop>` stands before the answer."""

    bos_token_id = None

    def __init__(self, path: Path, config: "ChatGLMConfig"):
        """Raises ConfigError when sentencepiece is not installed or the file is none of its models."""
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            raise ConfigError("ChatGLM-6B needs sentencepiece: pip install 'xllm-cli[chatglm]'") from None
        try:
            self._pieces = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"{path}: cannot be read: {str(error).splitlines()[0][:80]}") from None
        self._offset = IMAGES if config.vocab_size > SLIM else 0
        self.eos_token_id = config.eos_token_id
        self.before_answer = [config.gmask_token_id, config.bos_token_id]

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        text = re.sub(f" {{2,{LONGEST}}}", lambda run: f"<|blank_{len(run[0])}|>", text)
        text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
        # sentencepiece begins a text with a space of its own: a line end takes it, and both are left out again.
        return {"input_ids": [number + self._offset for number in self._pieces.encode(f"<n>{text}")[2:]]}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        size = len(self._pieces)
        text = self._pieces.decode([i - self._offset for i in ids if 0 <= i - self._offset < size])
        text = text.replace("<n>", "\n").replace("<|tab|>", "\t")
        return re.sub(r"<\|blank_(\d+)\|>", lambda run: " " * int(run[1]), text)
