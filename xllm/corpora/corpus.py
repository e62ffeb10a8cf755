"""What every corpus has: a row in the table of corpora, and a converter that reads what was downloaded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from xllm.corpora.raw import Raw, Unusable
from xllm.errors import ConfigError, MediaError, XLLMError
from xllm.modalities import MODALITIES
from xllm.steps.rows import Dropped
from xllm.steps.run import Made, Mapper, Report, Row, run, serial

Read = Callable[[Raw, str], Iterator[Row | Dropped]]


@dataclass(frozen=True)
class Corpus:
    """One row of the table: what a corpus is, who gives it under which terms, and how it is read.

    `splits` are named with the file that says what is in each. `read(raw, split)` yields rows in the order of the
    corpus. Their media are names in `raw`, or a tuple of names of which the first that is there counts. What has no
    such file, or no words, is dropped by `rows` below.
    """

    name: str
    title: str
    kind: Literal["speech", "image", "video", "dialogue", "instructions"]
    language: Literal["zh", "en"]
    size: str
    licence: str
    where: str
    used: str
    splits: Mapping[str, str]
    layout: str
    read: Read

    def splits_in(self, raw: Raw, asked: Sequence[str] = ()) -> list[str]:
        """The splits asked for, or else all that are there; the first where none is, whose reader says what lacks.

        Raises ConfigError for one that the corpus does not have.
        """
        if unknown := [split for split in asked if split not in self.splits]:
            raise ConfigError(f"{self.name} has no split {unknown[0]!r}; it has {', '.join(self.splits)}")
        there = asked or [split for split, file in self.splits.items() if raw.find(file)]
        return list(there or self.splits)[: None if there else 1]

    def rows(self, raw: Raw, split: str) -> Iterator[Row | Dropped]:
        """The rows of a split, media found and texts looked at. Raises XLLMError where the corpus is not itself."""
        try:
            for row in self.read(raw, split):
                yield row if isinstance(row, Dropped) else self._complete(row, raw)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise XLLMError(f"{raw.root}: something in it is not as {self.title} has it ({what})") from error

    def _complete(self, row: Row, raw: Raw) -> Row | Dropped:
        words = row.get("response", "-")
        if not isinstance(words, str) or not words.strip():
            return Dropped(row["id"], "no words")
        for key in MODALITIES:
            if names := row.get(key):
                try:
                    row[key] = raw.media(names) if isinstance(names, str) else raw.media(*names)
                except Unusable as error:
                    return Dropped(row["id"], str(error), str(names))
        return row | {"source": self.name}


class Durations:
    """Adds seconds to rows with speech; what cannot be opened has failed. The part of conversion worth many workers."""

    def __call__(self, rows: list[Row]) -> Made:
        from xllm.media import probe_audio

        made: Made = []
        for row in rows:
            try:
                made.append(row | {"duration": round(probe_audio(row["speech"]), 3)})
            except MediaError as error:
                made.append(Dropped(row["id"], "damaged", str(error), failed=True))
        return made


def convert(
    corpus: Corpus,
    tree: Raw,
    split: str,
    *,
    limit: int | None = None,
    mapper: Mapper = serial,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Write `<split>.jsonl` in the tree's work folder. Raises XLLMError."""
    return run(
        lambda: corpus.rows(tree, split),
        tree.work / f"{split}.jsonl",
        {"corpus": corpus.name, "split": split},
        Durations() if corpus.kind == "speech" else None,
        unique=lambda row: row["id"],
        limit=limit,
        mapper=mapper,
        progress=progress,
    )
