"""CIF-based speech recognition (stage 1, paper 3.2.1 and A.3): encoder, integrate-and-fire, decoder.

Losses of the CIF-ASR family: cross-entropy with label smoothing, the quantity loss |sum of weights - length|, and
CTC on the encoder's output, if it has a weight (a frozen encoder learns nothing from it). After stage 1 the encoder
and the CIF are frozen and feed the speech interface; the decoder stays as the `cif` engine.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from xllm.config import IGNORE, RecognizerConfig
from xllm.features import LOUD
from xllm.speech.cif import CIF, CIFOutput, integrate_and_fire
from xllm.speech.conformer import SpeechEncoder, length_mask
from xllm.speech.decoder import Decoder, Foreign, SyllableHead
from xllm.speech.units import BLANK, UNKNOWN, Units
from xllm.speech.whisper import WhisperEncoder
from xllm.speech.whisper_decoder import WhisperDecoder

SHARPEN = 2.0  # of logits for the interface: label smoothing leaves a tenth of each character to all others

HEARD_AT_ONCE = 16  # utterances of like length in one batch


class Encoded(NamedTuple):
    """A batch of utterances: CIF's token vectors, and the encoder's frames [B, U, D] that they were made of."""

    cif: CIFOutput
    frames: Foreign


class Recognition(NamedTuple):
    """Characters of one utterance, their log-probabilities, and when each begins and fires (encoder frames)."""

    ids: list[int]
    scores: list[float]
    starts: list[float]
    fires: list[float]


def flat_weights(features: Tensor, frames: Tensor, tokens: Tensor, rate: int) -> Tensor:
    """Weights [B, U] that spread each utterance's tokens evenly over its louder frames.

    From normalised fbank [B, F, mels]; `frames` and `tokens` [B] count encoder frames and tokens, `rate` is F / U.
    """
    loud = (features.mean(-1) >= LOUD).float()
    loud = F.pad(loud, (0, -loud.shape[1] % rate)).unflatten(1, (-1, rate)).mean(-1)
    weights = (loud + 1e-3) * length_mask(frames, loud.shape[1])
    return weights * (tokens / weights.sum(1))[:, None]


class Recognizer(nn.Module):
    """Fbank to characters, token-synchronously."""

    def __init__(self, config: RecognizerConfig, units: Units):
        super().__init__()
        if config.decoder.syllables and not units.syllables:
            raise ValueError("the decoder reads syllables, but the units have none (syllables.txt)")
        self.config = config
        self.units = units if config.decoder.syllables else replace(units, syllables=())  # samples need no readings
        width = config.encoder.width
        self.encoder = {"conformer": SpeechEncoder, "whisper": WhisperEncoder}[config.encoder.form](config.encoder)
        self.cif = CIF(width, config.cif.channels, config.cif.kernel)
        if config.decoder.form == "whisper":
            self.decoder = WhisperDecoder(config.decoder, units)
        else:
            self.decoder = Decoder(config.decoder, width, len(units.characters), units.syllables)
        if config.ctc_weight and config.decoder.syllables:
            self.ctc = SyllableHead(width, units.syllables)
        elif config.ctc_weight:
            self.ctc = nn.Linear(width, len(units.characters))

    def encode(self, features: Tensor, lengths: Tensor, depth: int = 0) -> Encoded:
        """Fbank [B, F, mels] of `lengths` [B] to CIF vectors; of a `depth` above 0 as in `losses`."""
        frames = Foreign(*self.encoder(features, lengths, *([depth] if depth else [])))
        return Encoded(self.cif(*frames), frames)

    def encode_all(self, features: list[Tensor], depth: int = 0) -> Encoded:
        """`encode` of fbanks [F, mels] of several lengths, as one batch."""
        device = next(self.parameters()).device
        lengths = torch.tensor([len(f) for f in features], device=device)
        return self.encode(pad_sequence(features, batch_first=True).to(device), lengths, depth)

    @torch.inference_mode()
    def hear(self, features: list[Tensor], depth: int = 0) -> list[Tensor]:
        """Token vectors [L, D] of each utterance's fbank [F, mels]: what the speech interface reads.

        Of a `depth` above 0 they are states, as in `losses`.
        """
        order = sorted(range(len(features)), key=lambda i: len(features[i]))
        vectors: dict[int, Tensor] = {}
        for start in range(0, len(order), HEARD_AT_ONCE):
            chosen = order[start : start + HEARD_AT_ONCE]
            out = self.encode_all([features[i] for i in chosen], depth)
            tokens = self.tokens(out)
            vectors |= {i: v[:n] for i, v, n in zip(chosen, tokens, out.cif.lengths.tolist(), strict=True)}
        return [vectors[i] for i in range(len(features))]

    def tokens(self, out: Encoded) -> Tensor:
        """Token vectors for the speech interface [B, L, D]: CIF's, or characters' probabilities where it reads those.

        As probabilities they are of the same kind as those of a text's known syllables, so that text can stand in for
        speech, and the interface of a small system begins where the decoder ends (docs/decisions.md).
        """
        if not self.reads_characters:
            return out.cif.embeddings
        return self._character_tokens(
            self.decoder.from_cif(out.cif.embeddings)[0], out.cif.lengths, **self._beside(out.frames)
        )

    @torch.inference_mode()
    def tokens_of_syllables(self, syllables: Tensor) -> Tensor:
        """What `tokens` would be, had the syllables [L] been heard: [L, D]. Only where it reads characters."""
        lengths = torch.tensor([len(syllables)], device=syllables.device)
        return self._character_tokens(self.decoder.from_syllables(syllables[None]), lengths)[0]

    def _character_tokens(self, read: Tensor, lengths: Tensor, **frames: Foreign) -> Tensor:
        if read.shape[1] == 0:  # nothing was said
            return read.new_zeros(len(read), 0, self.token_width)
        return (SHARPEN * self.decoder(read, lengths, **frames).float()).softmax(-1)

    def _beside(self, frames: Foreign) -> dict[str, Foreign]:
        """What the decoder reads beside CIF's vectors."""
        return {"frames": frames} if self.config.decoder.form == "whisper" else {}

    @property
    def reads_characters(self) -> bool:
        """Whether `tokens` are probabilities of characters."""
        return self.reads_text or self.config.decoder.form == "whisper"

    @property
    def reads_text(self) -> bool:
        """Whether text can stand in for speech: by `tokens_of_syllables`, or as characters (`Homophones`)."""
        if self.config.decoder.form == "whisper":
            return bool(self.units.readings)
        return self.config.decoder.syllables and self.config.decoder.form == "nar"

    @property
    def token_width(self) -> int:
        """D of `tokens`."""
        return len(self.units.characters) if self.reads_characters else self.config.encoder.width

    def losses(
        self,
        characters: Tensor,
        token_lengths: Tensor,
        features: Tensor | None = None,
        feature_lengths: Tensor | None = None,
        syllables: Tensor | None = None,
        visual: Foreign | None = None,
        linguistic: Foreign | None = None,
        flat_start: bool = False,
        depth: int = 0,
    ) -> dict[str, Tensor]:
        """Losses of one batch; `loss` is their weighted sum, all are means per character.

        With `flat_start` the tokens come from `flat_weights`, and CIF's own weights learn to resemble them: until
        the encoder hears anything, CIF cannot learn where tokens are, nor the encoder what they are.

        `characters` [B, L] (IGNORE beyond `token_lengths` [B]); `features` [B, F, mels] with `feature_lengths`
        [B], or none to train the decoder on text alone from its `syllables` [B, L]. With a `depth` they are what the
        encoder's frozen layers made of them (`WhisperEncoder.lower`).
        """
        config = self.config
        if features is None:
            return self._text_losses(characters, token_lengths, syllables)
        hidden, frames = self.encoder(features, feature_lengths, *([depth] if depth else []))
        alphas = self.cif.weights(hidden, frames)
        if not token_lengths.any():  # nobody speaks in the whole batch
            quantity = alphas.sum() / len(alphas)
            return {"loss": config.quantity_weight * quantity, "quantity": quantity}
        flat = flat_weights(features, frames, token_lengths, self.encoder.rate) if flat_start else None
        out = integrate_and_fire(hidden, alphas if flat is None else flat, targets=token_lengths)
        read, syllable_logits = self.decoder.from_cif(out.embeddings)
        beside = self._beside(Foreign(hidden, frames))
        logits = self.decoder(read, token_lengths, self._previous(characters), visual, linguistic, **beside)
        losses = {"ce": self._cross_entropy(logits, characters)}
        # Per character like the other losses: per utterance its gradient drowns theirs (docs/decisions.md).
        count = token_lengths.sum().clamp(min=1)
        losses["quantity"] = (alphas.sum(1) - token_lengths).abs().sum() / count
        total = losses["ce"] + config.quantity_weight * losses["quantity"]
        if config.ctc_weight:
            units = characters if syllable_logits is None else syllables
            losses["ctc"] = self._ctc_loss(hidden, frames, units, token_lengths) / count
            total = total + config.ctc_weight * losses["ctc"]
        if syllable_logits is not None:
            losses["syllable"] = self._cross_entropy(syllable_logits, syllables)
            total = total + config.syllable_weight * losses["syllable"]
        if flat is not None:
            losses["alignment"] = (alphas - flat).abs().sum() / count
            total = total + losses["alignment"]
        right = (logits.argmax(-1) == characters) & (characters != IGNORE)
        losses["wrong"] = 1 - right.sum() / count
        return {"loss": total, **losses}

    def _ctc_loss(self, hidden: Tensor, frames: Tensor, units: Tensor, lengths: Tensor) -> Tensor:
        """The sum over a batch."""
        log = self.ctc(hidden).float().log_softmax(-1).transpose(0, 1)
        units = units.clamp(min=0)
        return F.ctc_loss(log, units, frames, lengths, blank=BLANK, reduction="sum", zero_infinity=True)

    def _text_losses(self, characters: Tensor, lengths: Tensor, syllables: Tensor | None) -> dict[str, Tensor]:
        """Cross-entropy of characters from syllables."""
        if not self.config.decoder.syllables or syllables is None:
            raise ValueError("training on text alone needs a decoder with syllables and samples with readings")
        ids = syllables.clamp(min=UNKNOWN)
        logits = self.decoder(self.decoder.from_syllables(ids), lengths, self._previous(characters))
        loss = self._cross_entropy(logits, characters)
        return {"loss": loss, "text": loss}

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits.float().flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORE,
            label_smoothing=self.config.label_smoothing,
        )

    @staticmethod
    def _previous(characters: Tensor) -> Tensor:
        """The character before each position [B, L]; START before the first."""
        return F.pad(characters.clamp(min=BLANK), (1, 0), value=Decoder.START)[:, :-1]

    @torch.inference_mode()
    def recognize(
        self,
        features: Tensor,
        lengths: Tensor,
        beam: int = 4,
        visual: Foreign | None = None,
        linguistic: Foreign | None = None,
    ) -> list[Recognition]:
        """Transcribe fbank [B, F, mels] of `lengths` [B]. `beam` matters to the autoregressive form only."""
        return self.decode(self.encode(features, lengths), beam, visual, linguistic)

    @torch.inference_mode()
    def decode(
        self, encoded: Encoded, beam: int = 4, visual: Foreign | None = None, linguistic: Foreign | None = None
    ) -> list[Recognition]:
        """Characters of utterances already encoded: one per fired token."""
        out = encoded.cif
        if out.embeddings.shape[1] == 0:
            return [Recognition([], [], [], []) for _ in out.lengths]
        read, _ = self.decoder.from_cif(out.embeddings)
        if self.config.decoder.form == "ar":
            ids, scores = self._beam_search(read, out.lengths, beam, visual, linguistic)
        else:
            beside = self._beside(encoded.frames)
            best = self._log_probabilities(read, out.lengths, None, visual, linguistic, **beside).max(-1)
            ids, scores = best.indices, best.values
        columns = (t.tolist() for t in (ids, scores, out.starts, out.fires))
        return [
            Recognition(*(row[:n] for row in rows)) for n, *rows in zip(out.lengths.tolist(), *columns, strict=True)
        ]

    def _log_probabilities(
        self,
        read: Tensor,
        lengths: Tensor,
        previous: Tensor | None,
        visual: Foreign | None,
        linguistic: Foreign | None,
        **frames: Foreign,
    ) -> Tensor:
        """[B, L, V], with blank and unknown impossible."""
        logits = self.decoder(read, lengths, previous, visual, linguistic, **frames).float()
        logits[..., : UNKNOWN + 1] = float("-inf")
        return logits.log_softmax(-1)

    def _beam_search(
        self, read: Tensor, lengths: Tensor, beam: int, visual: Foreign | None, linguistic: Foreign | None
    ) -> tuple[Tensor, Tensor]:
        """Token-synchronous beam search: every hypothesis of an utterance has its CIF length, none ends early.

        Returns ids and log-probabilities [B, L] of the best hypothesis.
        """
        batch, size, width = read.shape
        beam = min(beam, len(self.units.characters) - UNKNOWN - 1)

        def spread(x):
            return None if x is None else x.repeat_interleave(beam, dim=0)

        read, visual, linguistic, long = spread(read), spread(visual), spread(linguistic), spread(lengths)
        ids = read.new_zeros(batch, beam, size, dtype=torch.long)
        scores = read.new_zeros(batch, beam, size, dtype=torch.float)
        total = read.new_full((batch, beam), float("-inf"), dtype=torch.float)
        total[:, 0] = 0.0  # the beams start as one hypothesis
        rows = torch.arange(batch, device=read.device)[:, None]
        for step in range(size):
            alive = (step < lengths)[:, None]
            seen = slice(None, step + 1)
            previous = self._previous(ids.flatten(0, 1)[:, seen])
            log = self._log_probabilities(read[:, seen], long.clamp(max=step + 1), previous, visual, linguistic)
            log = log[:, -1].view(batch, beam, -1)
            best = (total[..., None] + log).flatten(1).topk(beam, dim=1)
            source, chosen = best.indices // log.shape[-1], best.indices % log.shape[-1]
            now = log[rows, source, chosen]
            # A finished utterance keeps its hypotheses and their order.
            keep = torch.arange(beam, device=read.device).expand(batch, beam)
            source, total = torch.where(alive, source, keep), torch.where(alive, best.values, total)
            ids, scores = ids[rows, source], scores[rows, source]
            ids[:, :, step] = torch.where(alive, chosen, 0)
            scores[:, :, step] = torch.where(alive, now, 0.0)
        return ids[:, 0], scores[:, 0]
