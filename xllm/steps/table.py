"""The steps by name, for the command line and for recipes: what each reads, and what it is done with."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from xllm.config import Config
from xllm.errors import ConfigError
from xllm.steps import instructions
from xllm.steps.check import Check
from xllm.steps.check_page import write_page
from xllm.steps.draw import draw, shows_none_of
from xllm.steps.filter import Filter, unique_key
from xllm.steps.rows import Dropped, Report, read_rows
from xllm.steps.run import Mapper, Row, Step, digest, run, serial, sidecar, work_folder
from xllm.steps.shard import Shard, numbered
from xllm.steps.synthesize import Synthesize
from xllm.steps.translate import Translate
from xllm.steps.turns import Turns

# What changes how a step is done and not what it makes: a manifest stays valid when these change.
HOW = {"device", "batch_size", "timeout", "base_url"}


class Draw(Config):
    """Some rows of a manifest, by seed (`xllm.steps.draw`)."""

    count: int = Field(gt=0, description="rows")
    seed: int = Field(1, description="another number, other rows")
    without: tuple[Path, ...] = Field((), description="manifests whose images must not be drawn")


class Instructions(Config):
    """The set of stage 3 from manifests (`xllm.steps.instructions`)."""

    describe: Path | None = Field(None, description="pictures described: MiniGPT-4")
    recognise: Path | None = Field(None, description="speech: AISHELL-2")
    answer: Path | None = Field(None, description="spoken questions about pictures: VSDial-CN")
    watch: Path | None = Field(None, description="films described: ActivityNet Captions")
    counts: dict[str, int] = Field({}, description="rows of each task; the paper's unless given")
    seed: int = Field(1, description="another number, other rows and wordings")


STEPS: dict[str, type[Config]] = {
    "translate": Translate,
    "turns": Turns,
    "synthesize": Synthesize,
    "filter": Filter,
    "draw": Draw,
    "instructions": Instructions,
    "check": Check,
    "shard": Shard,
}


@dataclass(frozen=True)
class _Work:
    """A step as `run` does it."""

    source: Callable[[], Iterable[Row | Dropped]]
    step: Step | None = None
    unique: Callable[[Row], str | None] | None = None
    chunk: int | None = None


def perform(
    name: str,
    options: Config,
    source: Path | None,
    out: Path,
    *,
    limit: int | None = None,
    mapper: Mapper = serial,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Do the step `name` on the manifest `source`, to the manifest `out`. Raises XLLMError."""
    if (source is None) != (name == "instructions"):
        raise ConfigError(f"{name} {'needs' if source is None else 'does not take'} a manifest to begin with")
    work = _work(options, source, out)
    about = {"step": name, "options": _options(options), "from": _manifests(options, source, out)}
    report = run(
        work.source,
        out,
        about,
        work.step,
        unique=work.unique,
        limit=limit,
        chunk=work.chunk,
        mapper=mapper,
        progress=progress,
    )
    if name == "check":
        write_page(out, sidecar(out, "html"))
    return report


def _work(options: Config, source: Path | None, out: Path) -> _Work:
    match options:
        case Instructions():
            manifests = {task: path for task in instructions.TASKS if (path := getattr(options, task)) is not None}
            return _Work(
                lambda: instructions.rows(manifests, options.counts, options.seed), unique=lambda row: row["id"]
            )
        case Draw():
            return _Work(lambda: draw(source, options.count, options.seed, shows_none_of(options.without)))
        case Translate():
            kept = options.model_copy(update={"cache": options.cache or out.parent / "replies"})
            return _Work(lambda: read_rows(source), kept)
        case Filter():
            return _Work(lambda: read_rows(source), options, unique_key(options.unique) if options.unique else None)
        case Synthesize():
            return _Work(
                lambda: read_rows(source),
                options.model_copy(update={"folder": out.parent / "speech", "scratch": work_folder(out)}),
            )
        case Shard():
            placed = options.model_copy(update={"folder": out.parent, "scratch": work_folder(out), "name": out.stem})
            return _Work(lambda: numbered(read_rows(source)), placed, chunk=options.per_shard)
        case _:
            return _Work(lambda: read_rows(source), options)


def paths_in(options: Config) -> dict[str, tuple[Path, ...]]:
    """Those of the options that are paths, by key."""
    values = {key: getattr(options, key) for key in type(options).model_fields}
    found = {key: value if isinstance(value, tuple) else (value,) for key, value in values.items()}
    return {key: paths for key, paths in found.items() if paths and all(isinstance(path, Path) for path in paths)}


def _options(options: Config) -> dict[str, Any]:
    """What the step makes depends on these, and on the manifests."""
    own = options.model_dump(mode="json")
    return {key: value for key, value in own.items() if key not in HOW and key not in paths_in(options)}


def _manifests(options: Config, source: Path | None, out: Path) -> dict[str, str]:
    """The manifests that it is made from, as seen from it, and their contents."""
    given = [path for paths in paths_in(options).values() for path in paths if path.suffix == ".jsonl"]
    return {os.path.relpath(path, out.parent): digest(path) for path in [*filter(None, [source]), *given]}
