"""What stages 2 and 3 feed the model: instructions about any media, and responses."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xllm.distortion import DISTORTION, distort
from xllm.errors import MediaError, XLLMError
from xllm.features import SPEEDS, augment, seeded, speech_features
from xllm.instructions import INSTRUCTIONS, Request, request
from xllm.media import load_audio
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.prompt import fill
from xllm.speech.homophones import Homophones
from xllm.text import normalize
from xllm.training.cache import Cache
from xllm.training.examples import Examples
from xllm.training.fbanks import Fbanks, Progress, stamp
from xllm.training.looks import Looks
from xllm.training.states import States


class ResponseExamples(Examples):
    """Stages 2 and 3: an instruction about any media, and the response as it is written.

    What a row asks is for `xllm.instructions.request` to say; of several wordings the first stands, or one is drawn.

    Speech comes as token vectors that the frozen recogniser computed once; with `views` above 1, each utterance under
    as many augmentations (the first is none), of which training draws one: the interface must not only see vectors of
    speech that the recogniser knows by heart. Where the interface reads characters, rows without any media stand in
    for speech with those of their text or reading, partly misheard. Pictures and films are loaded, and augmented, each
    time; or their tokens are computed once, if the stage augments nothing.
    """

    def __init__(
        self,
        manifests: tuple[Path, ...],
        model: XLLM,
        about: Collection[str],
        views: int,
        augment: bool,
        seed: int,
        cache: Cache,
        keys: Mapping[str, str],
        once: bool = False,
        fbanks: bool = False,
        varied: bool = False,
        progress: Progress | None = None,
        states: Callable[[Sequence[str | None]], States] | None = None,
        answers: bool = True,
    ):
        """Samples of a stage that is `about` some modalities.

        Tokens of speech, and with `once` of all media, are kept in `cache`; `keys` stand for the encoders' weights.
        With `fbanks`, these are kept, too. With `varied`, the wording of an instruction is drawn. With `states`, which
        makes them for the paths, tokens are made from these and their versions. Without `answers` only samples count
        whose media are told in words.
        """
        super().__init__(manifests)
        self.model, self.about, self.augment, self.seed, self.varied = model, about, augment, seed, varied
        self.answers = answers
        self.recognizer = getattr(model, "recognizer", None)
        self.units = self.recognizer and self.recognizer.units
        self.looks: dict[str, Looks] = {}
        for name in about if once else ():
            asked = (request(row, about) for row in self.rows) if name != "speech" else ()
            paths = [path for one in asked if isinstance(one, Request) for path in one.media.get(name, ())]
            if paths:
                encoder = MODALITIES[name].encoder
                self.looks[name] = Looks(
                    name, paths, model.config, getattr(model, encoder), cache, keys[encoder], progress
                )
        speech = self.rows["speech"][:] if "speech" in about else [None] * len(self.rows)
        self.spoken = [item for item, path in enumerate(speech) if path]
        self._number = {item: number for number, item in enumerate(self.spoken)}
        self.views = []
        if self.recognizer is None:
            return
        heard = self.recognizer.reads_text and self.units.readings
        self.homophones = Homophones(self.units) if heard else None
        encoder = self.recognizer.config.encoder
        speeds = SPEEDS if views > 1 and encoder.form == "conformer" else (1.0,)
        self.states = states and states(speech)
        self.fbanks = Fbanks(speech, encoder, speeds, cache if fbanks and not states else None, progress)
        stamps = [stamp(speech[item]) for item in self.spoken]
        made_of = self.recognizer.config.model_dump(mode="json", exclude={"encoder": {"pretrained"}, "floor": True})
        self.views = [
            cache.ragged(
                {
                    "what": "speech",
                    "frozen": keys["recognizer"],
                    "config": made_of,
                    "view": view and (view, seed, *([DISTORTION] if encoder.form == "whisper" else [])),
                    **({"depth": self.states.depth} if self.states else {}),
                },
                stamps,
                lambda numbers, view=view: self._compute(numbers, view),
                lambda done, total, view=view: progress and progress(f"token vectors, view {view}", done, total),
            )
            for view in range(views)
        ]

    def _compute(self, numbers: list[int], view: int) -> Iterator[Tensor | Exception]:
        """Token vectors of those of `spoken`."""
        features: dict[int, Tensor] = {}
        failed: dict[int, Exception] = {}
        for number in numbers:
            try:
                features[number] = self._features(self.spoken[number], view, seeded(self.seed, view, number))
            except XLLMError as error:
                failed[number] = error
        depth = self.states.depth if self.states else 0
        vectors = self.recognizer.hear(list(features.values()), depth) if features else []
        vectors = dict(zip(features, vectors, strict=True))
        for number in numbers:
            yield failed[number] if number in failed else vectors[number]

    def _features(self, item: int, view: int, generator: torch.Generator) -> Tensor:
        """What the recogniser is fed; view 0 is the recording. Raises XLLMError when it cannot be used."""
        if self.states:
            if reason := self.states.failed(item):
                raise MediaError(reason)
            return self.states.version(view, item)
        encoder = self.fbanks.encoder
        if view and encoder.form == "whisper":
            return speech_features(distort(load_audio(self.fbanks.paths[item]), generator), encoder)
        found = self.fbanks.load(item, SPEEDS[(view + 1) % len(SPEEDS)])
        return augment(found, generator) if view else found

    def unusable(self, item: int) -> str | None:
        row = self.rows[item]
        if not (row["response"] or "").strip():
            return "no response"
        asked = request(row, self.about)
        if isinstance(asked, str):
            return asked
        if not self.answers and not self._told(row, asked):
            return "nothing tells what it shows"
        for name, looks in self.looks.items():
            if reason := next((looks.failed[p] for p in asked.media.get(name, ()) if p in looks.failed), None):
                return reason
        if not asked.media:
            if not self.recognizer.reads_text:
                return "no media, and this recogniser reads no text in place of speech"
            known = self.units.encode(row["response"]) if self.homophones else row["reading"]
            return None if known else "neither media nor reading"
        if "speech" not in asked.media:
            return None
        number = self._number[item]
        if number in self.views[0].failed:
            return self.views[0].failed[number]
        return None if all(view.length(number) for view in self.views) else "no token fires"

    def cost(self, item: int) -> int:
        """Embeddings and characters of the sample, as far as they vary within a modality."""
        row = self.rows[item]
        media, size, config = request(row, self.about).media, len(row["response"]), self.model.config
        images = len(media.get("image", ())) + config.frames * len(media.get("video", ()))
        spoken = size if not media else 0
        if "speech" in media:
            spoken = max(view.length(self._number[item]) for view in self.views)
        return size + spoken + config.image.queries * images

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        asked = request(row, self.about)
        drawn = generator and self.varied
        wording = int(torch.randint(len(asked.wordings), (), generator=generator)) if drawn else 0
        shown = {name: paths for name, paths in asked.media.items() if name != "speech"}
        draw = generator if self.augment else None
        tokens = {
            name: [self.looks[name][path] for path in paths] for name, paths in shown.items() if name in self.looks
        }
        if "speech" in asked.media or not shown:
            tokens["speech"] = [self._tokens(item, row, generator)]
        return {
            "tokens": tokens,
            "features": {
                name: [MODALITIES[name].load(Path(path), self.model.config, draw) for path in paths]
                for name, paths in shown.items()
                if name not in self.looks
            },
            "instruction": asked.wordings[wording],
            "response": row["response"],
            "history": asked.history,
            "told": self._told(row, asked),
        }

    def _told(self, row: dict[str, Any], asked: Request) -> dict[str, str]:
        """What is said, where speech is alone and to be written, or what pictures and films show, in words.

        The latter as far as the row tells it, in as many tokens as they have embeddings.
        """
        shown = [name for name in asked.media if name != "speech"]
        if not shown and asked.wordings[0] in INSTRUCTIONS["asr"]:
            return {"speech": normalize(row["response"])}
        size = self.model.config.image.queries
        return {name: fill(text, size) for name, text in (row["told"] or {}).items() if text and name in shown}

    def _tokens(self, item: int, row: dict[str, Any], generator: torch.Generator | None) -> Tensor:
        if item in self._number:
            view = int(torch.randint(len(self.views), (), generator=generator)) if generator else 0
            return self.views[view][self._number[item]]
        if self.homophones:
            return self.homophones.probabilities(self.units.encode(row["response"]), generator)
        ids = self.units.encode_reading(row["reading"])
        if generator:
            ids = self.units.mishear(ids, generator)
        return self.recognizer.tokens_of_syllables(torch.tensor(ids)).clone()

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """The arguments of `XLLM.response_loss`: a list each, with an entry per sample."""
        return {
            "tokens": [item["tokens"] for item in items],
            "features": [item["features"] for item in items],
            "instructions": [item["instruction"] for item in items],
            "responses": [item["response"] for item in items],
            "histories": [item["history"] for item in items],
            "told": [item["told"] for item in items],
        }
