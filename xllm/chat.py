"""Questions about pictures, films and speech: alone, in batches, or in a conversation that remembers (paper 4.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xllm.errors import ConfigError, XLLMError
from xllm.generation import GREEDY, Sampling, generate, steps
from xllm.instructions import INSTRUCTIONS
from xllm.media import rereadable
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.prompt import Turn

MAX_TOKENS = 256  # of an answer
HALF = "\ufffd"  # what a tokenizer shows for the first bytes of a character


@dataclass
class Question:
    """An instruction about media that `see` has embedded; spoken questions may have none."""

    instruction: str | None
    media: dict[str, list[Tensor]] = field(default_factory=dict)
    history: Sequence[Turn] = ()

    @property
    def asked(self) -> str:
        """The instruction, or what stands for it when the question is spoken. Raises ConfigError without either."""
        if self.instruction:
            return self.instruction
        if "speech" not in self.media:
            raise ConfigError("nothing is asked: give a question in writing or in speech")
        return INSTRUCTIONS["dialogue" if "image" in self.media else "spoken"][0]


def see(model: XLLM, name: str, source: Any) -> Tensor:
    """One input of the modality `name`, a file, as the embeddings [L, D_llm] that the LLM reads.

    Raises MediaError for a file that cannot be used, ConfigError when the model lacks the modality.
    """
    if name not in MODALITIES or not hasattr(model, name):
        raise ConfigError(f"this model cannot take {name}: it has no such interface")
    features = MODALITIES[name].load(source, model.config, None)
    with torch.inference_mode():
        return model.embed(model.encode([{name: [features]}]))[0][name][0]


def question(model: XLLM, row: dict[str, Any]) -> Question:
    """The question of a manifest's row. Raises MediaError or ConfigError for media that cannot be used."""
    media = {}
    for name in MODALITIES:
        if paths := row[name]:
            media[name] = [see(model, name, Path(path)) for path in ([paths] if isinstance(paths, str) else paths)]
    asked = Question(row["instruction"], media, row["history"] or ())
    asked.asked  # noqa: B018 - raises when nothing is
    return asked


def _prompts(model: XLLM, questions: Sequence[Question], max_tokens: int) -> tuple[Tensor, Tensor, list[int]]:
    """Embeddings, mask, and how many tokens each answer may have: all if the LLM's positions suffice.

    Padding takes no positions, so the company in a batch shortens no answer. Raises ConfigError when one has no room.
    """
    batch = model.prompt.build(
        model.llm,
        [question.asked for question in questions],
        [question.media for question in questions],
        histories=[question.history for question in questions],
    )
    sizes = batch.mask.sum(1).tolist()
    if max(sizes) >= model.llm.positions:
        raise ConfigError(
            f"the question takes {max(sizes)} tokens with its media and history, the language model has "
            f"{model.llm.positions}; clear the conversation (/clear), or show fewer media"
        )
    return batch.embeds, batch.mask, [min(max_tokens, model.llm.positions - size) for size in sizes]


def answer(
    model: XLLM, questions: Sequence[Question], sampling: Sampling = GREEDY, max_tokens: int = MAX_TOKENS
) -> list[str]:
    """Answers to several questions, as one batch. Raises ConfigError when one is empty or too long."""
    with torch.inference_mode():
        done = generate(model.llm, *_prompts(model, questions, max_tokens), sampling)
    return [model.llm.tokenizer.decode(one.ids, skip_special_tokens=True) for one in done]


def answer_rows(
    model: XLLM,
    rows: Sequence[dict[str, Any]],
    sampling: Sampling = GREEDY,
    max_tokens: int = MAX_TOKENS,
    batch_size: int = 8,
) -> Iterator[str | XLLMError]:
    """The answer to every row of a manifest, in order, or why there is none."""
    for start in range(0, len(rows), batch_size):
        batch: list[Question | XLLMError] = []
        for row in rows[start : start + batch_size]:
            try:
                batch.append(question(model, row))
            except XLLMError as error:
                batch.append(error)
        asked = [one for one in batch if isinstance(one, Question)]
        try:
            written = iter(answer(model, asked, sampling, max_tokens) if asked else ())
        except ConfigError:  # one is too long: find out which
            written = (_answer_alone(model, one, sampling, max_tokens) for one in asked)
        for one in batch:
            yield next(written) if isinstance(one, Question) else one


def _answer_alone(model: XLLM, question: Question, sampling: Sampling, max_tokens: int) -> str | XLLMError:
    try:
        return answer(model, [question], sampling, max_tokens)[0]
    except XLLMError as error:
        return error


def stream(model: XLLM, question: Question, sampling: Sampling = GREEDY, max_tokens: int = MAX_TOKENS) -> Iterator[str]:
    """The same answer piece by piece, each a few whole characters."""
    ids: list[int] = []
    shown = 0
    with torch.inference_mode():
        prompts = _prompts(model, [question], max_tokens)
    for step in steps(model.llm, *prompts, sampling):
        ids.append(step[0][0])
        text = model.llm.tokenizer.decode(ids, skip_special_tokens=True)
        if not text.endswith(HALF) and len(text) > shown:
            yield text[shown:]
            shown = len(text)
    text = model.llm.tokenizer.decode(ids, skip_special_tokens=True)
    if len(text) > shown:
        yield text[shown:]


class Conversation:
    """Turns about media that were attached on the way; they stay in front of the prompt until `clear`.

    A spoken question stands in the prompt only while it is answered; in the history it is what the recogniser wrote.
    """

    def __init__(self, model: XLLM):
        self.model = model
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.turns: list[Turn] = []
        self.files: list[tuple[str, str]] = []
        self._media: dict[str, list[Tensor]] = {}

    def attach(self, name: str, source: Path | str) -> None:
        """Show a file of the modality `name`; raises MediaError or ConfigError and then nothing has changed."""
        embeddings = see(self.model, name, Path(source))
        self._media.setdefault(name, []).append(embeddings)
        self.files.append((name, str(Path(source).absolute())))  # a saved conversation may be loaded elsewhere

    def ask(
        self, text: str | None, sampling: Sampling = GREEDY, max_tokens: int = MAX_TOKENS, speech: Path | None = None
    ) -> Iterator[str]:
        """Pieces of the answer. However the reader leaves, what was answered so far is remembered."""
        media = dict(self._media)
        if speech is not None:
            speech = rereadable(speech)  # for `heard`
            media["speech"] = [see(self.model, "speech", speech)]
        pieces: list[str] = []
        try:
            for piece in stream(self.model, Question(text, media, tuple(self.turns)), sampling, max_tokens):
                pieces.append(piece)
                yield piece
        finally:
            if pieces:  # the recogniser comes after the answer, which need not wait for it
                asked = text or (self.heard(speech) if speech is not None else "")
                self.turns.append({"instruction": asked, "response": "".join(pieces)})

    def heard(self, speech: Path) -> str:
        """What the recogniser makes of a spoken question."""
        from xllm.media import load_audio

        return self.model.transcribe([load_audio(speech)], engine="cif")[0].text

    def state(self) -> dict[str, Any]:
        """The conversation as plain data."""
        return {"media": [{"kind": name, "path": path} for name, path in self.files], "turns": self.turns}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`; raises ConfigError when it is no such thing, MediaError when a file is gone."""
        try:
            files = [(medium["kind"], Path(medium["path"])) for medium in state["media"]]
            unknown = {name for name, _ in files} - set(MODALITIES)
            turns = [{"instruction": str(t["instruction"]), "response": str(t["response"])} for t in state["turns"]]
        except (KeyError, TypeError):
            raise ConfigError("not a saved conversation") from None
        if unknown:
            raise ConfigError(f"not a saved conversation of this xllm: it shows {', '.join(sorted(map(str, unknown)))}")
        other = Conversation(self.model)
        for name, path in files:
            other.attach(name, path)
        self.turns, self.files, self._media = turns, other.files, other._media
