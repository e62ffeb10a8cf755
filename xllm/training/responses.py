"""What stages 2 and 3 feed the model: instructions about any media, and responses."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xllm.errors import ManifestError, XLLMError
from xllm.features import SPEEDS, augment, seeded
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.prompt import INSTRUCTIONS, fill
from xllm.text import normalize
from xllm.training.cache import Cache
from xllm.training.examples import Examples
from xllm.training.fbanks import Fbanks, Progress, stamp
from xllm.training.looks import Looks


class ResponseExamples(Examples):
    """Stages 2 and 3: an instruction about any media, and the response.

    Speech comes as token vectors that the frozen recogniser computed once; with `views` above 1, each utterance under
    as many augmentations (the first is none), of which training draws one: the interface must not only see vectors of
    speech that the recogniser knows by heart. Where the interface reads characters, rows without any media stand in
    for speech with those of their reading, partly misheard. Pictures and films are loaded, and augmented, each time;
    or their tokens are computed once, if the stage augments nothing.
    """

    def __init__(
        self,
        manifests: tuple[Path, ...],
        model: XLLM,
        views: int,
        augment: bool,
        seed: int,
        cache: Cache,
        keys: Mapping[str, str],
        once: bool = False,
        fbanks: bool = False,
        progress: Progress | None = None,
    ):
        """Tokens of speech, and with `once` of all media, are kept in `cache`; `keys` stand for the encoders' weights.

        With `fbanks`, these are kept, too.

        Raises ManifestError when a sample needs a part that the model lacks.
        """
        super().__init__(manifests)
        self.model, self.augment, self.seed = model, augment, seed
        self.recognizer = getattr(model, "recognizer", None)
        self.units = self.recognizer and self.recognizer.units
        media = {name: self.rows[name][:] for name in MODALITIES}
        for item in range(len(self.rows)):
            used = [name for name in MODALITIES if media[name][item]] or ["speech"]  # text stands in for speech
            if missing := [name for name in used if not hasattr(model, name)]:
                raise ManifestError(f"sample {self.name(item)!r} needs the {missing[0]} interface, which is not here")
            if used == ["speech"] and not media["speech"][item] and not self.recognizer.reads_characters:
                raise ManifestError(f"sample {self.name(item)!r} has no speech, and this recogniser cannot do without")
        self.looks: dict[str, Looks] = {}
        for name in MODALITIES if once else ():
            paths = [path for row in self.rows for path in self._seen(row).get(name, ())]
            if paths:
                self.looks[name] = Looks(name, paths, model, cache, keys[MODALITIES[name].encoder], progress)
        speech = media["speech"]
        self.spoken = [item for item, path in enumerate(speech) if path]
        self._number = {item: number for number, item in enumerate(self.spoken)}
        self.views = []
        if self.recognizer is None:
            return
        encoder = self.recognizer.config.encoder
        self.fbanks = Fbanks(speech, encoder, SPEEDS if views > 1 else (1.0,), cache if fbanks else None, progress)
        stamps = [stamp(speech[item]) for item in self.spoken]
        self.views = [
            cache.ragged(
                {
                    "what": "speech",
                    "frozen": keys["recognizer"],
                    "config": self.recognizer.config.model_dump(mode="json", exclude={"encoder": {"pretrained"}}),
                    "view": view and (view, seed),
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
                found = self.fbanks.load(self.spoken[number], SPEEDS[(view + 1) % len(SPEEDS)])  # view 0 is untouched
                draw = seeded(self.seed, view, number)
                features[number] = augment(found, draw, self.fbanks.encoder.form) if view else found
            except XLLMError as error:
                failed[number] = error
        vectors = dict(zip(features, self.recognizer.hear(list(features.values())), strict=True)) if features else {}
        for number in numbers:
            yield failed[number] if number in failed else vectors[number]

    def _seen(self, row: dict[str, Any]) -> dict[str, list[str]]:
        """Paths of a row's media other than speech."""
        paths = {name: row[name] for name in MODALITIES if name != "speech" and row[name]}
        return {name: [value] if isinstance(value, str) else value for name, value in paths.items()}

    def unusable(self, item: int) -> str | None:
        row = self.rows[item]
        if not normalize(row["response"] or ""):
            return "no response"
        for name, paths in self._seen(row).items():
            failed = self.looks[name].failed if name in self.looks else {}
            if reason := next((failed[path] for path in paths if path in failed), None):
                return reason
        number = self._number.get(item)
        if number is None:
            return None if row["reading"] or self._seen(row) else "neither media nor reading"
        if number in self.views[0].failed:
            return self.views[0].failed[number]
        return None if all(view.length(number) for view in self.views) else "no token fires"

    def cost(self, item: int) -> int:
        """Embeddings and characters of the sample, as far as they vary within a modality."""
        row, number = self.rows[item], self._number.get(item)
        size, seen = len(row["response"]), self._seen(row)
        config = self.model.config
        pictures = len(seen.get("image", ())) + config.frames * len(seen.get("video", ()))
        if number is not None:
            spoken = max(view.length(number) for view in self.views)
        else:
            spoken = 0 if seen else size
        return size + spoken + config.image.queries * pictures

    def load(self, item: int, generator: torch.Generator | None) -> dict[str, Any]:
        row = self.rows[item]
        seen = self._seen(row)
        draw = generator if self.augment else None
        spoken = self._tokens(item, row, generator) if not seen or item in self._number else None
        tokens = {
            name: [self.looks[name][path] for path in paths] for name, paths in seen.items() if name in self.looks
        }
        return {
            "tokens": tokens if spoken is None else {**tokens, "speech": [spoken]},
            "features": {
                name: [MODALITIES[name].load(Path(path), self.model.config, draw) for path in paths]
                for name, paths in seen.items()
                if name not in self.looks
            },
            "instruction": row["instruction"] or INSTRUCTIONS["asr"],
            "response": normalize(row["response"]),
            "history": row["history"] or [],
            "told": self._told(row) if seen else {"speech": normalize(row["response"])},
        }

    def _told(self, row: dict[str, Any]) -> dict[str, str]:
        """What pictures and films show in words, as far as the row tells it: as many tokens as they have embeddings."""
        size = self.model.config.image.queries
        return {name: fill(text, size) for name, text in (row["told"] or {}).items() if text and row[name]}

    def _tokens(self, item: int, row: dict[str, Any], generator: torch.Generator | None) -> Tensor:
        if item in self._number:
            view = int(torch.randint(len(self.views), (), generator=generator)) if generator else 0
            return self.views[view][self._number[item]]
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
