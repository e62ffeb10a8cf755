"""XLLM: frozen encoders and interfaces around a frozen language model (paper Figure 1), trained and used here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import exp
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from xllm import checkpoint
from xllm.config import LoRAConfig, ModelConfig
from xllm.context import Sight, encoders, features
from xllm.dictionary import begin_with
from xllm.drafting import verify
from xllm.errors import ConfigError
from xllm.features import FRAME_SHIFT, speech_features
from xllm.generation import Generation
from xllm.instructions import INSTRUCTIONS
from xllm.llm.lora import add_lora
from xllm.modalities import MODALITIES
from xllm.pace import Pace
from xllm.prompt import Prompt, Turn, captioned
from xllm.speech.context import ContextEncoders
from xllm.speech.timing import align, cif_tokens
from xllm.speech.units import UNKNOWN, Units
from xllm.text import normalize
from xllm.transcript import Token, Transcript

ENGINES = ("xllm", "cif")  # the two rows of the paper's Table 4
Media = Mapping[str, Sequence[Tensor]]  # of one sample: each modality's inputs


def _each_modality(
    media: Sequence[Media], apply: Callable[[str, list[Tensor]], list[Tensor]]
) -> list[dict[str, list[Tensor]]]:
    """`apply` to all inputs of a modality at once, over all samples; results go back to their samples."""
    out: list[dict[str, list[Tensor]]] = [{} for _ in media]
    for name in MODALITIES:
        places = [i for i, row in enumerate(media) for _ in row.get(name, ())]
        if places:
            results = apply(name, [x for row in media for x in row.get(name, ())])
            for place, result in zip(places, results, strict=True):
                out[place].setdefault(name, []).append(result)
    return out


class XLLM(nn.Module):
    """The parts of one system, by name: encoders (`recognizer`, `vision`), one interface per modality, and `llm`."""

    def __init__(self, config: ModelConfig, parts: Iterable[str], lora: LoRAConfig | None = None):
        """Build `parts` untrained, and the encoder of each interface; raises ConfigError for what is not configured.

        The part `lora` are updates inside `llm`, as `lora` says.
        """
        super().__init__()
        self.config = config
        self.drafts = True  # transcripts are verified against the recogniser's, not written token by token
        self.pace = Pace()
        self.draft_threshold: float | None = None  # lossy: drafts at least this sure never reach the LLM
        parts = {*parts, *(row.encoder for name, row in MODALITIES.items() if name in parts)}
        if "llm" in parts:
            from xllm.llm.causal import CausalLM

            self.llm = CausalLM.build(config.llm, config.tokenizer)
            self.prompt = Prompt(self.llm.tokenizer, config.llm.chat)
            self.llm.turn_ends.update(self.prompt.end)
        if "lora" in parts:
            self.lora = add_lora(self.llm.model, lora)
        for name, row in MODALITIES.items():
            if row.encoder in parts and not hasattr(self, row.encoder):
                setattr(self, row.encoder, row.build_encoder(config))
            if name in parts:
                if "llm" not in parts:
                    raise ConfigError(f"the {name} interface needs the language model beside it")
                setattr(self, name, row.build_interface(config, getattr(self, row.encoder), self.llm.width))
        if "vision" in parts:  # which knows what the recipe leaves to the named model
            self.config = config.model_copy(update={"vision": self.vision.config})
        if "naming" in parts:
            from xllm.vision.naming import Naming

            self.units = Units.load(config.tokenizer)
            self.naming = Naming(self.vision.width, len(self.units.characters))
        if "context" in parts:
            self.context = ContextEncoders.load(config.context)

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
        for frozen in card.frozen:
            folders[frozen] = checkpoint.fitting(checkpoint.read_card(checkpoint.find(frozen)), card.model.llm)
        stored = set().union(*folders.values())
        have = stored | ({"llm"} if card.model.llm.name else set())
        fetched = card.model.vision is not None and (card.model.vision.pretrained or bool(card.model.blip2))
        have |= {"vision"} if fetched else set()
        have |= {"context"}.intersection(encoders(card.model).values()) if "recognizer" in have else set()
        attending = {row.encoder for name, row in MODALITIES.items() if name in stored}
        attending |= set(encoders(card.model).values()) if "recognizer" in stored else set()
        unused = {"naming", *({"vision"} - stored - attending)}  # has taught its encoder; would be fetched for nobody
        wanted = have - unused if parts is None else set(parts)
        wanted |= have & {"lora"} if "llm" in wanted else set()
        if missing := wanted - have:
            raise ConfigError(
                f"{folder} has no trained {', '.join(sorted(missing))}; it holds {', '.join(sorted(have))}"
            )
        model = cls(card.model.trained(stored), wanted, card.lora)
        left = set(wanted)
        for source in (folder, *reversed(card.frozen)):  # its own parts first, then what was taken last
            left -= checkpoint.load_into(model, source, left & folders[source], new=checkpoint.WITHOUT_EFFECT)
        if "vision" in left and card.model.blip2:
            from xllm.vision.blip2 import load_blip2

            load_blip2(card.model.blip2, model.vision)
        learned = {name.partition(".")[0] for name, _ in model.named_parameters()}
        if missing := learned - have:
            raise ConfigError(f"{folder} lacks {', '.join(sorted(missing))}, which its interfaces need")
        return model.requires_grad_(False).eval().to(device)

    @property
    def device(self) -> torch.device:
        """Of all but the LLM, which may be spread over several."""
        others = (value for name, value in self.named_parameters() if not name.startswith("llm."))
        return next(chain(others, self.parameters())).device

    @property
    def frame_seconds(self) -> float:
        """Seconds per encoder frame U."""
        return self.recognizer.encoder.rate * FRAME_SHIFT

    def encode(self, media: Sequence[Media]) -> list[dict[str, list[Tensor]]]:
        """Features of every sample's inputs through the frozen encoders, a modality at a time: to their tokens."""

        def tokens(name: str, features: list[Tensor]) -> list[Tensor]:
            row = MODALITIES[name]
            with torch.no_grad():
                return row.tokens(getattr(self, row.encoder), features)

        return _each_modality(media, tokens)

    def embed(self, tokens: Sequence[Media]) -> list[dict[str, list[Tensor]]]:
        """Tokens of every sample's inputs through the interfaces: to embeddings [L, D_llm] each."""

        def embeddings(name: str, inputs: list[Tensor]) -> list[Tensor]:
            lengths = torch.tensor([len(x) for x in inputs], device=self.device)
            out, sizes = getattr(self, name)(pad_sequence(inputs, batch_first=True).to(self.device), lengths)
            return [row[:n] for row, n in zip(out, sizes.tolist(), strict=True)]

        return _each_modality(tokens, embeddings)

    def response_loss(
        self,
        tokens: Sequence[Media],
        features: Sequence[Media],
        instructions: Sequence[str],
        responses: Sequence[str],
        histories: Sequence[Sequence[Turn]] | None = None,
        told: Sequence[Mapping[str, str]] = (),
        answers: bool = True,
    ) -> dict[str, Tensor]:
        """Stages 2 and 3: loss of the answers (paper 3.2.2, 3.2.3), each sample with any media.

        They come as `tokens` where they were computed before, as `features` where not. With an interface's
        `text_weight`, its embeddings are also drawn towards the LLM's own for the words that `told` gives for them;
        without `answers` this is all, and costs no pass of the LLM.
        """
        encoded = self.encode(features)
        embeddings = self.embed([{**a, **b} for a, b in zip(tokens, encoded, strict=True)])
        losses = {"loss": torch.zeros((), device=self.device)}
        if answers:
            batch = self.prompt.build(self.llm, instructions, embeddings, responses, histories)
            loss, wrong = self.llm.answer_loss(*batch)
            losses = {"loss": loss, "answer": loss, "wrong": wrong}
        told = told or [{}] * len(embeddings)
        weights = dict.fromkeys(MODALITIES, self.config.image.text_weight) | {"speech": self.config.speech.text_weight}
        for name, weight in weights.items():
            pairs = [
                (row[name][0], words[name]) for row, words in zip(embeddings, told, strict=True) if words.get(name)
            ]
            if weight and pairs:
                losses[f"{name} text"] = self._distance_to_text(*zip(*pairs, strict=True))
                losses["loss"] = losses["loss"] + weight * losses[f"{name} text"]
        return losses

    def begin_with_characters(self) -> None:
        """Start an untrained speech interface from the LLM's own embeddings of the characters that it reads."""
        if self.recognizer.reads_characters:
            self._begin_with(self.speech, self.recognizer.units)

    def begin_with_names(self) -> None:
        """Start an untrained image interface from the names that `naming`, as stage 0 left it, gives to pictures."""
        self.image.naming.load_state_dict(self.naming.state_dict())
        self._begin_with(self.image, self.units)

    def _begin_with(self, interface: nn.Module, units: Units) -> None:
        """Only where the LLM can spell every character; a space stands where a name has ended."""
        table = self._spelled((" ", " ", *units.characters[UNKNOWN + 1 :]))
        if table is not None:
            begin_with(interface.enter, interface.adapter, table)

    def _spelled(self, characters: Iterable[str]) -> Tensor | None:
        """Characters one by one, as the LLM reads them: the mean of each one's tokens, [L, D_llm].

        A language model's tokens may be words or parts of a character, where interfaces have an embedding for each
        character. None if one of them is no token at all.
        """
        written = self.prompt.tokens_of_each(characters)
        if not all(written):
            return None
        tokens = self.llm.embed(list(chain.from_iterable(written))).split([len(ids) for ids in written])
        return torch.stack([token.mean(0) for token in tokens])

    def _distance_to_text(self, embeddings: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Squared distance of [L, D_llm] to the characters of each text, relative to the size of these.

        Texts that have not one character for every embedding, or some that the LLM cannot spell, are left out.
        """
        pairs = [
            (row, self._spelled(text)) for row, text in zip(embeddings, texts, strict=True) if len(row) == len(text)
        ]
        pairs = [(row, spelled) for row, spelled in pairs if spelled is not None]
        if not pairs:
            return torch.cat(list(embeddings)).sum() * 0.0
        given, wanted = (torch.cat(rows) for rows in zip(*pairs, strict=True))
        wanted = wanted.to(given)
        return nn.functional.mse_loss(given, wanted) / wanted.square().mean()

    def naming_loss(self, pixels: Tensor, names: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Stage 0, image: tell pictures [B, 3, H, W] apart by their names (`Naming`)."""
        return self.naming.loss(self.vision(pixels), names, targets)

    def text_loss(self, ids: Tensor, targets: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Stage 0: next-token loss of right-padded `ids` [B, L] where `targets` [B, L] are not IGNORE."""
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        loss, wrong = self.llm.answer_loss(self.llm.embed(ids), mask, targets)
        return {"loss": loss, "wrong": wrong}

    @torch.inference_mode()
    def transcribe(
        self,
        waves: Sequence[Tensor],
        engine: str = "xllm",
        sights: Sequence[Sight | None] | None = None,
        batch_size: int = 8,
    ) -> list[Transcript]:
        """Text and token times of waves [S] (16 kHz, any lengths); `sights` are what is seen meanwhile.

        Encoder and LLM each take `batch_size` of them at a time, waves of like lengths together.
        `cif` reads the recogniser's own decoder; `xllm` lets the LLM write (paper Table 4's two rows), with `drafts` by
        verifying what the recogniser has written: the same text in fewer passes. Its answers may have to be `counted`.
        Where the recogniser's text scores less than its `floor`, none is written. Raises ConfigError for another engine
        or when the checkpoint lacks the engine's parts.
        """
        if engine not in ENGINES:
            raise ConfigError(f"unknown engine {engine!r}: use {' or '.join(ENGINES)}")
        if not hasattr(self, "recognizer") or (engine == "xllm" and not hasattr(self, "speech")):
            raise ConfigError(f"this checkpoint has no parts for engine {engine!r}")
        sights = sights or [None] * len(waves)
        order = sorted(range(len(waves)), key=lambda number: len(waves[number]))
        heard: dict[int, Tensor] = {}
        timed: dict[int, list[Token]] = {}
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            vectors, tokens = self._listen([waves[n] for n in chosen], [sights[n] for n in chosen], engine == "xllm")
            heard |= zip(chosen, vectors, strict=True)
            timed |= zip(chosen, tokens, strict=True)
        scores = {number: Transcript.of(tokens).score for number, tokens in timed.items()}
        clear = [number for number in order if scores[number] >= self.recognizer.config.floor]
        if engine == "xllm":
            unsure = [number for number in clear if not self._sure(timed[number])]
            texts = ["".join(token.text for token in timed[n]) for n in unsure]
            answers = self._answers([heard[n] for n in unsure], [sights[n] for n in unsure], texts, batch_size)
            for number, answer, text in zip(unsure, answers, texts, strict=True):
                characters, sure = self._characters(answer)
                if not self.config.speech.counted or len(normalize("".join(characters))) == len(text):
                    timed[number] = align(characters, sure, timed[number])
        written = {number: Transcript.of(timed[number]) for number in clear}
        return [written.get(number) or Transcript("", score=scores[number]) for number in range(len(waves))]

    def _listen(
        self, waves: Sequence[Tensor], sights: Sequence[Sight | None], vectors: bool
    ) -> tuple[list[Tensor | None], list[list[Token]]]:
        """One batch through the recogniser: the interface's token vectors [L, D], if asked for, and its own text."""
        sizes = self.config.recognizer.encoder
        out = self.recognizer.encode_all([speech_features(wave.cpu(), sizes) for wave in waves])
        rows = [s and s.visual for s in sights], [s and s.linguistic for s in sights]
        said = self.recognizer.decode(out, **features(self.recognizer.decoder.config, *rows))
        timed = [cif_tokens(self.recognizer.units.decode(d.ids), d, self.frame_seconds) for d in said]
        if not vectors:
            return [None] * len(waves), timed
        tokens = self.recognizer.tokens(out)
        return [row[:n].clone() for row, n in zip(tokens, out.cif.lengths.tolist(), strict=True)], timed

    def _sure(self, tokens: Sequence[Token]) -> bool:
        """Whether a draft is taken as it is: no character of it is less likely than the threshold."""
        return self.draft_threshold is not None and min((t.score for t in tokens), default=0.0) >= self.draft_threshold

    def _answers(
        self, heard: list[Tensor], sights: Sequence[Sight | None], texts: Sequence[str], batch_size: int
    ) -> list[Generation]:
        """What the LLM writes after the speech prompts of token vectors [L, D]; nothing where no token fired.

        `texts` are the recogniser's: drafts of the answers, if `drafts`, and a measure of how long these may be.
        """

        def prompts(numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
            media = self.embed([{"speech": [heard[n]]} for n in numbers])
            seen = [sights[n] for n in numbers]
            media = [m | ({"image": sight.embeddings} if sight else {}) for m, sight in zip(media, seen, strict=True)]
            tasks = [INSTRUCTIONS["masr" if sight and sight.embeddings else "asr"][0] for sight in seen]
            instructions = [captioned(task, sight and sight.caption) for task, sight in zip(tasks, seen, strict=True)]
            batch = self.prompt.build(self.llm, instructions, media)
            return batch.embeds, batch.mask

        guesses = [self.prompt.tokens(text) for text in texts]
        sizes = [len(row) and max(len(row), len(ids)) for row, ids in zip(heard, guesses, strict=True)]
        limits = [size and size + size // 2 + 4 for size in sizes]  # with room for punctuation
        # Elsewhere passes are wide at no price, or rounding would let the clock have a say in what is written.
        embeddings = self.llm.embeddings
        exact = embeddings.device.type == "cpu" and embeddings.dtype == torch.float32
        drafts = guesses if self.drafts else [[]] * len(heard)
        return verify(self.llm, prompts, limits, drafts, batch_size, self.pace if exact else None).answers

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
