"""The prompt of the paper (3.2.3), and the only place that knows it.

    <Image>…</Image><Video>…</Video><Speech>…</Speech>Question: <Instruction> \\n Answer:

with only the modalities present. Media embeddings are spliced between their tags; batches are padded on the left;
the loss is on the answer alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from xllm.config import IGNORE
from xllm.llm.causal import CausalLM

TAGS = {"image": ("<Image>", "</Image>"), "video": ("<Video>", "</Video>"), "speech": ("<Speech>", "</Speech>")}
INSTRUCTIONS = {"asr": "请忠实地识别语音"}  # one fixed instruction in stage 2 (FACTS 6)


class PromptBatch(NamedTuple):
    """A batch for the LLM: `embeds` [B, L, D_llm] and `mask` [B, L], left-padded; `targets` [B, L] ids.

    `targets` are IGNORE everywhere but on the answer.
    """

    embeds: Tensor
    mask: Tensor
    targets: Tensor


class Prompt:
    """Builds token ids and embeddings for one LLM."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.end = [tokenizer.eos_token_id]

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, text: str) -> list[int]:
        """Plain text as a language model reads it: start, text, end."""
        return [*self.start, *self._tokens(text), *self.end]

    def spell(self, reading: str) -> list[int]:
        """Ids of syllables, for an LLM whose tokenizer has them: `ni3 hao3` -> [ni3] [hao3]."""
        return self._tokens("".join(f"[{syllable}]" for syllable in reading.split()))

    def answer(self, text: str) -> list[int]:
        """Ids of an answer: text, end."""
        return [*self._tokens(text), *self.end]

    @staticmethod
    def pieces(instruction: str, media: Sequence[str]) -> list[str]:
        """Text around the media slots: one piece more than there are media, in the paper's order."""
        pieces = [""]
        for name, (opening, closing) in TAGS.items():
            if name in media:
                pieces[-1] += opening
                pieces.append(closing)
        pieces[-1] += f"Question: {instruction} \n Answer:"
        return pieces

    def dictation(self, instruction: str, reading: str, answer: str) -> tuple[list[int], list[int]]:
        """Prompt of speech recognition with a reading in the speech slot, and its answer, as ids (stage 0)."""
        before, after = (self._tokens(piece) for piece in self.pieces(instruction, ["speech"]))
        return [*self.start, *before, *self.spell(reading), *after], self.answer(answer)

    def build(
        self,
        llm: CausalLM,
        instructions: Sequence[str],
        media: Mapping[str, tuple[Tensor, Tensor]],
        answers: Sequence[str] | None = None,
    ) -> PromptBatch:
        """Splice media into prompts: `media[name]` is (embeddings [B, L, D_llm], lengths [B]).

        Raises ValueError when the batch sizes of instructions, answers and media differ.
        """
        for name, (embeddings, _) in media.items():
            if len(embeddings) != len(instructions):
                raise ValueError(f"{len(instructions)} instructions, but {len(embeddings)} of {name}")
        names = [name for name in TAGS if name in media]
        rows, targets = [], []
        for i, instruction in enumerate(instructions):
            pieces = [self._tokens(piece) for piece in self.pieces(instruction, names)]
            answer = [] if answers is None else self.answer(answers[i])
            parts = [llm.embed([*self.start, *pieces[0]])]
            for name, piece in zip(names, pieces[1:], strict=True):
                embeddings, lengths = media[name]
                parts += [embeddings[i, : lengths[i]].to(parts[0].dtype), llm.embed(piece)]
            parts.append(llm.embed(answer))
            rows.append(torch.cat(parts))
            targets.append([IGNORE] * (len(rows[-1]) - len(answer)) + answer)
        size = max(map(len, rows))
        embeds = rows[0].new_zeros(len(rows), size, rows[0].shape[-1])
        ids = torch.full((len(rows), size), IGNORE, device=embeds.device)
        mask = torch.zeros(len(rows), size, dtype=torch.bool, device=embeds.device)
        for i, row in enumerate(rows):
            embeds[i, size - len(row) :] = row
            ids[i, size - len(row) :] = torch.tensor(targets[i], device=embeds.device)
            mask[i, size - len(row) :] = True
        return PromptBatch(embeds, mask, ids)
