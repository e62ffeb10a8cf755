"""The prompt of the paper (3.2.3), and the only place that knows it.

    <Image>…</Image><Video>…</Video><Speech>…</Speech>Question: <Instruction> \\n Answer:

with only the modalities present, and one pair of tags for each of several images. Earlier turns of a conversation
stand between the media and the question, as `Question: … \\n Answer:…\\n`. Media embeddings are spliced between
their tags; batches are padded on the left; the loss is on the answer alone.

With `chat` the same stands in the model's own chat template: each question is a turn of the user's, with the media in
the first one, each answer one of the assistant's.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from xllm.config import IGNORE
from xllm.errors import ConfigError
from xllm.llm.causal import CausalLM
from xllm.manifest import FRAME
from xllm.modalities import MODALITIES


class Turn(TypedDict):
    """An earlier question of a conversation and its answer."""

    instruction: str
    response: str


def fill(told: str, size: int) -> str:
    """Words in place of a picture, or of each frame of a film, filled up with spaces to `size` characters each."""
    return "".join(frame.ljust(size) for frame in told.split(FRAME))


def captioned(instruction: str, caption: str | None) -> str:
    """An instruction, and before it what an image shows in words, where these are given."""
    return f"图片内容：{caption.rstrip('。')}。{instruction}" if caption else instruction


class PromptBatch(NamedTuple):
    """A batch for the LLM: `embeds` [B, L, D_llm] and `mask` [B, L], left-padded; `targets` [B, L] ids.

    `targets` are IGNORE everywhere but on the answer.
    """

    embeds: Tensor
    mask: Tensor
    targets: Tensor


class Prompt:
    """Builds token ids and embeddings for one LLM."""

    def __init__(self, tokenizer, chat: bool = False):
        """Raises ConfigError when the tokenizer has no chat template and one is asked for."""
        self.tokenizer, self.chat = tokenizer, chat
        self._known: dict[str, list[int]] = {}
        self.start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.end = [tokenizer.eos_token_id]
        self.lead = list(getattr(tokenizer, "before_answer", ()))  # of a prefix LM, between prompt and answer
        if chat:
            if not getattr(tokenizer, "chat_template", None):
                raise ConfigError("llm.chat: the language model's tokenizer has no chat template")
            self.start, self.end = [], [self._end_of_turn()]  # the template has a start of its own

    def tokens(self, text: str) -> list[int]:
        """Ids of text, with nothing added."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def tokens_of_each(self, texts: Iterable[str]) -> list[list[int]]:
        """`tokens` of many short texts, each looked up once."""
        texts = list(texts)
        self._known |= {text: self.tokens(text) for text in set(texts) - self._known.keys()}
        return [self._known[text] for text in texts]

    def text(self, text: str) -> list[int]:
        """Plain text as a language model reads it: start, text, end."""
        return [*self.start, *self.tokens(text), *self.end]

    def spell(self, reading: str) -> list[int]:
        """Ids of syllables, for an LLM whose tokenizer has them: `ni3 hao3` -> [ni3] [hao3]."""
        return self.tokens("".join(f"[{syllable}]" for syllable in reading.split()))

    def answer(self, text: str) -> list[int]:
        """Ids of an answer: text, end."""
        return [*self.tokens(text), *self.end]

    @staticmethod
    def pieces(instruction: str, media: Sequence[str], history: Sequence[Turn] = ()) -> list[str]:
        """Text around the media slots: one piece more than there are media, in the paper's order."""
        pieces = [""]
        for name, row in MODALITIES.items():
            opening, closing = row.tags
            for _ in range(list(media).count(name)):
                pieces[-1] += opening
                pieces.append(closing)
        for turn in history:
            pieces[-1] += f"Question: {turn['instruction']} \n Answer:{turn['response']}\n"
        pieces[-1] += f"Question: {instruction} \n Answer:"
        return pieces

    def around(self, instruction: str, media: Sequence[str], history: Sequence[Turn] = ()) -> list[str]:
        """`pieces`, within the chat template if there is to be one."""
        if not self.chat:
            return self.pieces(instruction, media, history)
        first, *later = [*(turn["instruction"] for turn in history), instruction]
        pieces = self.pieces(first, media)
        shown = "".join(pieces)
        questions = [shown, *(self.pieces(question, ())[0] for question in later)]
        text = self._conversation(questions, [turn["response"] for turn in history])
        at = text.index(shown)
        pieces[0] = text[:at] + pieces[0]
        pieces[-1] += text[at + len(shown) :]
        return pieces

    def _conversation(self, questions: Sequence[str], answers: Sequence[str]) -> str:
        """Questions, all but the last one answered, up to where the next answer begins."""
        messages = [{"role": "user", "content": questions[0]}]
        for answer, question in zip(answers, questions[1:], strict=True):
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": question}]
        # Templates of models that think before they answer know `enable_thinking`, others pass it over.
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    def _end_of_turn(self) -> int:
        """The first control token after an answer: some models' is the beginning of the next question."""
        _, _, rest = self._conversation(["Q", "Q"], ["X-LLM"]).partition("X-LLM")
        control = self.tokenizer.added_tokens_decoder
        return next((token for token in self.tokens(rest) if token in control), self.tokenizer.eos_token_id)

    def ids(self, instruction: str, told: Mapping[str, Sequence[list[int]]], history: Sequence[Turn] = ()) -> list[int]:
        """A prompt whose media are told in words (stage 0): `told[name]` holds the ids of each slot."""
        slots = [slot for name in MODALITIES for slot in told.get(name, ())]
        names = [name for name in MODALITIES for _ in told.get(name, ())]
        before, *after = (self.tokens(piece) for piece in self.around(instruction, names, history))
        pieces = ([*slot, *piece] for slot, piece in zip(slots, after, strict=True))
        return [*sum(pieces, [*self.start, *before]), *self.lead]

    def build(
        self,
        llm: CausalLM,
        instructions: Sequence[str],
        media: Sequence[Mapping[str, Sequence[Tensor]]],
        answers: Sequence[str] | None = None,
        histories: Sequence[Sequence[Turn]] | None = None,
    ) -> PromptBatch:
        """Splice media into prompts: `media[i][name]` holds the embeddings [L, D_llm] of each of row i's inputs.

        Raises ValueError when the batch sizes differ.
        """
        histories = histories or [()] * len(instructions)
        if not len(instructions) == len(media) == len(histories) == len(instructions if answers is None else answers):
            raise ValueError(f"{len(instructions)} instructions, but {len(media)} of media")
        rows, targets = [], []
        for i, instruction in enumerate(instructions):
            slots = [(name, slot) for name in MODALITIES for slot in media[i].get(name, ())]
            before, *after = map(self.tokens, self.around(instruction, [name for name, _ in slots], histories[i]))
            answer = [] if answers is None else self.answer(answers[i])
            parts = [llm.embed([*self.start, *before])]
            for (_, slot), piece in zip(slots, after, strict=True):
                parts += [slot.to(parts[0]), llm.embed(piece)]
            parts.append(llm.embed([*self.lead, *answer]))
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
