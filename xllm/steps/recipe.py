"""Data recipes: one YAML file lists corpora and steps, each from a manifest to a manifest, in the order they are done.

    steps:
      - {do: visdial, to: visdial, splits: [train]}                          # a corpus of RAW, to a folder
      - {do: translate, from: visdial/train.jsonl, to: chinese/train.jsonl}  # a step, with its own options

All paths are in OUT. What is done is left as it is, so that a recipe that was stopped goes on where it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from xllm.config import Config, validate
from xllm.corpora.corpus import convert
from xllm.corpora.raw import Raw
from xllm.corpora.table import CORPORA
from xllm.errors import ConfigError, XLLMError
from xllm.steps.rows import Report, count_lines
from xllm.steps.run import Mapper, serial, sidecar
from xllm.steps.table import STEPS, paths_in, perform
from xllm.yaml_files import parse_override, read_yaml


class CorpusOptions(Config):
    """What a recipe says of a corpus."""

    raw: Path = Field(Path("."), description="where it lies in RAW")
    splits: tuple[str, ...] = Field((), description="which of its splits; none: all that are there")


class DataRecipe(Config):
    """A file of data recipes."""

    name: str
    steps: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Task:
    """One line of a recipe, checked."""

    do: str
    options: Config
    source: Path | None
    to: Path


def load_tasks(path: Path, overrides: Sequence[str] = ()) -> list[Task]:
    """The tasks of a recipe; `do.key=value` sets a key of all tasks that do so. Raises ConfigError."""
    recipe = validate(DataRecipe, read_yaml(path), str(path))
    changes: list[tuple[str, str, Any]] = []
    for override in overrides:
        form = f"step.key=value with a step of {path}"
        name, value = parse_override(override, form)
        do, dot, key = name.partition(".")
        if not dot or do not in {step.get("do") for step in recipe.steps}:
            raise ConfigError(f"override {override!r} is not of the form {form}")
        changes.append((do, key, value))
    return [_task(dict(step), changes, f"{path}: step {number}") for number, step in enumerate(recipe.steps, 1)]


def _task(step: dict[str, Any], changes: Sequence[tuple[str, str, Any]], where: str) -> Task:
    do, source, to = (step.pop(key, None) for key in ("do", "from", "to"))
    if do not in CORPORA and do not in STEPS:
        raise ConfigError(f"{where}: 'do' is one of {', '.join([*CORPORA, *STEPS])}, not {do!r}")
    if not isinstance(to, str) or not isinstance(source, str | None):
        raise ConfigError(f"{where}: needs 'to', and may have 'from': paths in OUT")
    step |= {key: value for name, key, value in changes if name == do}
    options = validate(CorpusOptions if do in CORPORA else STEPS[do], step, f"{where} ({do})")
    return Task(do, options, source and Path(source), Path(to))


def follow(
    tasks: Sequence[Task],
    raw: Path,
    out: Path,
    *,
    limit: int | None = None,
    mapper: Mapper = serial,
    progress: Callable[[str, int | None, Report], None] | None = None,
) -> Iterator[tuple[Path, Report]]:
    """Do the tasks; each manifest and its report as they are done. `limit` is of each corpus' inputs.

    `progress` is told what is done, how many inputs there are, if that is known, and the report so far. Raises
    XLLMError, also when all inputs of a task fail.
    """
    for task in tasks:
        total = count_lines(out / task.source) if task.source else None
        told = progress and partial(progress, f"{task.do} {task.to}", total)
        if isinstance(task.options, CorpusOptions):
            with Raw(raw / task.options.raw, out / task.to) as tree:
                for split in CORPORA[task.do].splits_in(tree, task.options.splits):
                    report = convert(CORPORA[task.do], tree, split, limit=limit, mapper=mapper, progress=told)
                    yield _some(out / task.to / f"{split}.jsonl", report)
        else:
            options = task.options.model_copy(update=_inside(task.options, out))
            source = task.source and out / task.source
            report = perform(task.do, options, source, out / task.to, mapper=mapper, progress=told)
            yield _some(out / task.to, report)


def _some(manifest: Path, report: Report) -> tuple[Path, Report]:
    """Both. Raises XLLMError when every input failed: whatever is wrong, more steps make it no better."""
    if report.failed and sum(report.failed.values()) == report.inputs:
        reasons = ", ".join(report.failed)
        raise XLLMError(
            f"{manifest}: all {report.inputs:,} inputs failed ({reasons}; {sidecar(manifest, 'dropped.jsonl').name} "
            "has more); put it right, delete the manifest and start again"
        )
    return manifest, report


def _inside(options: Config, out: Path) -> dict[str, Any]:
    """Those of the options that are paths, in `out`."""
    moved = {key: tuple(out / path for path in paths) for key, paths in paths_in(options).items()}
    return {key: paths if isinstance(getattr(options, key), tuple) else paths[0] for key, paths in moved.items()}
