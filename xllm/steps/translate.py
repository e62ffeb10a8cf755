"""Texts of a manifest into another language: all the sentences of a chunk together, so that a GPU has full batches."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pydantic import Field

from xllm.config import Config
from xllm.endpoint import Endpoint
from xllm.errors import ConfigError, Unavailable, XLLMError
from xllm.mbart import MBART
from xllm.steps.rows import Dropped
from xllm.steps.run import Made, Row
from xllm.translation import Translator, translator


class Translate(Config):
    """The paper's translation (A.1): by mBART-50 for captions and VisDial, by ChatGPT for the instructions."""

    model: str = Field(MBART, description="mBART-50 (hub name or folder), a file of translations, or a chat model")
    source: str = Field("en", description="language of the texts")
    target: str = Field("zh", description="language that they become")
    keys: tuple[str, ...] = Field(
        ("caption", "instruction", "response", "answer", "history"), description="keys whose texts are translated"
    )
    batch_size: int = Field(64, gt=0, description="sentences at once")
    cache: Path | None = Field(None, description="where a chat model's replies are kept")
    base_url: str | None = Field(None, description="address of the chat model; none: OPENAI_BASE_URL")
    device: str = "auto"

    @cached_property
    def _translator(self) -> Translator:
        return translator(self.model, self.source, self.target, None, self._endpoint, self.device, self.batch_size)

    def _endpoint(self) -> Endpoint:
        if self.cache is None:
            raise ConfigError(f"translate: {self.model!r} is a chat model; give a cache for its replies")
        return Endpoint(self.cache, self.base_url)

    def __call__(self, rows: list[Row]) -> Made:
        texts = list(dict.fromkeys(text for row in rows for text in self._texts(row)))
        known: dict[str, str | XLLMError] = {}
        for at, found in self._translator.translate(texts):
            if isinstance(found, Unavailable):  # later it may be there: the run stops, and goes on from here
                raise found
            known[texts[at]] = found
        return [self._translated(row, known) for row in rows]

    def _texts(self, row: Row) -> Iterator[str]:
        for key in self.keys:
            value = row.get(key) or ()
            if isinstance(value, str):
                yield value
            else:
                yield from (text for turn in value for text in turn.values())

    def _translated(self, row: Row, known: dict[str, str | XLLMError]) -> Row | Dropped:
        failed = next((found for text in self._texts(row) if isinstance(found := known[text], XLLMError)), None)
        if failed is not None:
            return Dropped(row["id"], "not translated", str(failed), failed=True)
        own = {key: row[key] for key in self.keys if row.get(key)}
        return row | {
            key: known[value]
            if isinstance(value, str)
            else [{part: known[text] for part, text in turn.items()} for turn in value]
            for key, value in own.items()
        }
