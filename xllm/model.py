"""XLLM: frozen encoders and interfaces around a frozen language model (paper Figure 1), trained and used here."""

from collections.abc import Iterable, Sequence
from math import exp
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from xllm import checkpoint
from xllm.config import ModelConfig
from xllm.errors import ConfigError
from xllm.features import FRAME_SHIFT, speech_features
from xllm.generation import Generation, greedy
from xllm.speech.cif import CIFOutput
from xllm.speech.recognizer import Recognizer
from xllm.speech.timing import align, cif_tokens
from xllm.speech.units import UNKNOWN, Units
from xllm.transcript import Transcript

ENGINES = ("xllm", "cif")  # the two rows of the paper's Table 4


class XLLM(nn.Module):
    """The parts of one system, by name: `recognizer` (encoder, CIF, decoder), `speech` (interface), `llm`."""

    def __init__(self, config: ModelConfig, parts: Iterable[str] = ("recognizer", "speech", "llm")):
        super().__init__()
        self.config = config
        parts = set(parts)
        if "recognizer" in parts:
            if config.tokenizer is None:
                raise ConfigError("model.tokenizer is not set: give the folder with units.txt")
            self.recognizer = Recognizer(config.recognizer, Units.load(config.tokenizer))
        if "llm" in parts:
            from xllm.llm.causal import CausalLM
            from xllm.prompt import Prompt

            self.llm = CausalLM.build(config.llm, config.tokenizer)
            self.prompt = Prompt(self.llm.tokenizer)
        if "speech" in parts:
            from xllm.speech.interface import SpeechInterface

            self.speech = SpeechInterface(config.speech, self.recognizer.token_width, self.llm.width)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device = "cpu", parts: Iterable[str] | None = None
    ) -> "XLLM":
        """Load a checkpoint folder or a system of the package (`tiny`) for use: frozen, in eval mode.

        Only `parts` are built if given. Raises ConfigError when the folder is not a usable checkpoint.
        """
        folder = checkpoint.find(folder)
        card = checkpoint.read_card(folder)
        folders = {folder: set(card.parts)}
        folders |= {frozen: set(checkpoint.read_card(checkpoint.find(frozen)).parts) for frozen in card.frozen}
        have = set().union(*folders.values()) | ({"llm"} if card.model.llm.name else set())
        wanted = have if parts is None else set(parts)
        if missing := wanted - have:
            raise ConfigError(
                f"{folder} has no trained {', '.join(sorted(missing))}; it holds {', '.join(sorted(have))}"
            )
        model = cls(card.model, wanted)
        for source, inside in folders.items():
            checkpoint.load_into(model, source, wanted & inside)
        return model.requires_grad_(False).eval().to(device)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def frame_seconds(self) -> float:
        """Seconds per encoder frame U."""
        return self.recognizer.encoder.rate * FRAME_SHIFT

    def response_loss(
        self,
        tokens: Tensor,
        token_lengths: Tensor,
        instructions: Sequence[str],
        responses: Sequence[str],
        readings: Sequence[str] = (),
    ) -> dict[str, Tensor]:
        """Stage 2, speech: loss of the answers given token vectors [B, L, D] (paper 3.2.2).

        With `reading_weight`, embeddings are also drawn towards the LLM's own for the syllables of `readings`.
        """
        embeddings, lengths = self.speech(tokens, token_lengths)
        batch = self.prompt.build(self.llm, instructions, {"speech": (embeddings, lengths)}, responses)
        loss, wrong = self.llm.answer_loss(*batch)
        losses = {"loss": loss, "answer": loss, "wrong": wrong}
        if weight := self.config.speech.reading_weight:
            losses["reading"] = self._reading_loss(embeddings, lengths, readings)
            losses["loss"] = loss + weight * losses["reading"]
        return losses

    def begin_with_readings(self) -> None:
        """Start an untrained speech interface from the LLM's own embeddings of syllables, if it has tokens for them."""
        spelled = [self.prompt.spell(syllable) for syllable in self.recognizer.units.syllables]
        if self.config.speech.reading_weight and all(len(ids) == 1 for ids in spelled[UNKNOWN + 1 :]):
            self.speech.begin_with(self.llm.embed([ids[0] for ids in spelled]))

    def _reading_loss(self, embeddings: Tensor, lengths: Tensor, readings: Sequence[str]) -> Tensor:
        """Squared distance to the LLM's embeddings of each reading, relative to their size.

        Utterances whose reading has another number of syllables than CIF has fired are left out.
        """
        spelled = [self.prompt.spell(reading) for reading in readings]
        fits = [i for i, (ids, n) in enumerate(zip(spelled, lengths.tolist(), strict=True)) if len(ids) == n]
        if not any(spelled[i] for i in fits):
            return embeddings.sum() * 0.0
        wanted = self.llm.embed([token for i in fits for token in spelled[i]])
        ours = torch.cat([embeddings[i, : lengths[i]] for i in fits])
        return nn.functional.mse_loss(ours, wanted) / wanted.square().mean()

    def text_loss(self, ids: Tensor, targets: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Stage 0: next-token loss of right-padded `ids` [B, L] where `targets` [B, L] are not IGNORE."""
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        loss, wrong = self.llm.answer_loss(self.llm.embed(ids), mask, targets)
        return {"loss": loss, "wrong": wrong}

    def _encode(self, features: list[Tensor]) -> CIFOutput:
        """Fbank of each utterance [F, mels] -> CIF vectors of all."""
        batch = pad_sequence(features, batch_first=True).to(self.device)
        lengths = torch.tensor([len(f) for f in features], device=self.device)
        return self.recognizer.encode(batch, lengths)

    @torch.inference_mode()
    def speech_tokens(self, features: list[Tensor]) -> list[Tensor]:
        """Token vectors [L, D] of each utterance's fbank [F, mels]: what stage 2 caches."""
        order = sorted(range(len(features)), key=lambda i: len(features[i]))
        vectors: dict[int, Tensor] = {}
        for start in range(0, len(order), 16):
            chosen = order[start : start + 16]
            out = self._encode([features[i] for i in chosen])
            tokens = self.recognizer.tokens(out)
            vectors |= {i: v[:n] for i, v, n in zip(chosen, tokens, out.lengths.tolist(), strict=True)}
        return [vectors[i] for i in range(len(features))]

    @torch.inference_mode()
    def transcribe(
        self, waves: Sequence[Tensor], engine: str = "xllm", instruction: str | None = None
    ) -> list[Transcript]:
        """Text and token times of waves [S] (16 kHz, any lengths), as one batch.

        `cif` reads the recogniser's own decoder; `xllm` lets the LLM write (paper Table 4's two rows). Raises
        ConfigError for another engine or when the checkpoint lacks the engine's parts.
        """
        if engine not in ENGINES:
            raise ConfigError(f"unknown engine {engine!r}: use {' or '.join(ENGINES)}")
        if not hasattr(self, "recognizer") or (engine == "xllm" and not hasattr(self, "speech")):
            raise ConfigError(f"this checkpoint has no parts for engine {engine!r}")
        if not waves:
            return []
        mels = self.config.recognizer.encoder.mels
        out = self._encode([speech_features(wave.cpu(), mels) for wave in waves])
        drafts = self.recognizer.decode(out)
        timed = [cif_tokens(self.recognizer.units.decode(d.ids), d, self.frame_seconds) for d in drafts]
        if engine == "xllm":
            answers = self._answers(out, instruction)
            timed = [align(*self._characters(a), t) for a, t in zip(answers, timed, strict=True)]
        return [Transcript.of(tokens) for tokens in timed]

    def _answers(self, out: CIFOutput, instruction: str | None) -> list[Generation]:
        """What the LLM writes after the speech prompt; nothing where no token fired."""
        from xllm.prompt import INSTRUCTIONS

        instructions = [instruction or INSTRUCTIONS["asr"]] * len(out.lengths)
        batch = self.prompt.build(
            self.llm, instructions, {"speech": self.speech(self.recognizer.tokens(out), out.lengths)}
        )
        limits = [n and n + n // 2 + 4 for n in out.lengths.tolist()]
        return greedy(self.llm, batch.embeds, batch.mask, limits)

    def _characters(self, answer: Generation) -> tuple[list[str], list[float]]:
        """Characters of an answer, each with the probability of the LLM token that completed it."""
        characters: list[str] = []
        scores: list[float] = []
        for end, score in enumerate(answer.scores, start=1):
            text = self.llm.tokenizer.decode(answer.ids[:end], skip_special_tokens=True)
            if text.endswith("\ufffd"):  # half of a character so far
                continue
            new = text[len(characters) :]
            characters += new
            scores += [exp(score)] * len(new)
        while characters and characters[-1].isspace():
            characters.pop(), scores.pop()
        return characters, scores
