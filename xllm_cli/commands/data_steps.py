"""`xllm prepare-data translate`, `synthesize`, … : one step from a manifest to a manifest.

Defaults stand in `xllm/steps/`; an option that is not given is left to it.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from xllm_cli.console import note, show_warnings
from xllm_cli.preparation import (
    Device,
    Gpus,
    Limit,
    Manifest,
    Out,
    Quiet,
    Ray,
    Workers,
    finish,
    manifest_at,
    mapper,
    showing,
    tell,
)


def _do(
    name: str,
    source: Path | None,
    out: Path,
    options: dict[str, Any],
    limit: int | None,
    workers: int = 1,
    gpus: str | None = None,
    ray: str | None = None,
    quiet: bool = False,
) -> Path:
    from xllm.config import validate
    from xllm.steps.rows import count_lines
    from xllm.steps.table import STEPS, perform

    show_warnings(quiet)
    given = {key: value for key, value in options.items() if value is not None and value != []}
    checked = validate(STEPS[name], given, name)
    target = out if source is None else manifest_at(out, source)
    total = None if source is None else min(count_lines(source), limit or 1 << 62)
    with showing(quiet) as show:
        how, told = mapper(workers, gpus, ray), partial(show, name, total)
        report = perform(name, checked, source, target, limit=limit, mapper=how, progress=told)
    tell(target, report)
    finish([report])
    return target


def translate(
    source: Manifest,
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(
            help="mBART-50 by its hub name or in a folder; a file of translations; else a chat model behind "
            "OPENAI_BASE_URL. [facebook/mbart-large-50-many-to-many-mmt]"
        ),
    ] = None,
    source_language: Annotated[str | None, typer.Option("--from", help="Language of the texts. Default: en.")] = None,
    target_language: Annotated[str | None, typer.Option("--to", help="Language that they become. Default: zh.")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="Key to translate; several times. Default: caption, response, instruction, answer, history."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where a chat model's replies are kept; replies/ beside OUT.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Sentences at once.")] = None,
    device: Device = "auto",
    limit: Limit = None,
    workers: Workers = 1,
    gpus: Gpus = None,
    ray: Ray = None,
    quiet: Quiet = False,
) -> None:
    """Texts into another language, English into Chinese unless told otherwise."""
    options = {"model": model, "source": source_language, "target": target_language, "keys": key, "cache": cache}
    options |= {"batch_size": batch_size, "device": device}
    _do("translate", source, out, options, limit, workers, gpus, ray, quiet)


def turns(
    source: Manifest,
    out: Out,
    answered: Annotated[
        bool | None, typer.Option("--answered/--unanswered", help="Only questions that have, or lack, an answer.")
    ] = None,
    limit: Limit = None,
    quiet: Quiet = False,
) -> None:
    """Dialogues to one row per question: what is to be recognised, with picture, caption and what came before."""
    _do("turns", source, out, {"answered": answered}, limit, quiet=quiet)


def synthesize(
    source: Manifest,
    out: Out,
    model: Annotated[
        str | None, typer.Option(help="Text-to-speech model of transformers (VITS, FastSpeech2): hub name or folder.")
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(help="Or any program: 'say --to {out} {text}'. It may have {voice}; no shell is used."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Key that is spoken. Default: response.")] = None,
    voices: Annotated[int | None, typer.Option(min=1, help="Speakers that take turns. [1]")] = None,
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds that a command may take.")] = None,
    device: Device = "auto",
    limit: Limit = None,
    workers: Workers = 1,
    gpus: Gpus = None,
    ray: Ray = None,
    quiet: Quiet = False,
) -> None:
    """Texts spoken: one 16 kHz file for each different text, in speech/ beside OUT."""
    options = {"model": model, "command": command, "text": text, "voices": voices, "timeout": timeout}
    _do("synthesize", source, out, options | {"device": device}, limit, workers, gpus, ray, quiet)


def filter_rows(
    source: Manifest,
    out: Out,
    clip: Annotated[
        str | None, typer.Option(help="CLIP or Chinese-CLIP, hub name or folder: keep what image and text share.")
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(help="Cosine of image and text, with --clip; the paper's for Wukong. [0.45]")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Key compared with the image. Default: response.")] = None,
    min_side: Annotated[
        int | None, typer.Option(min=1, help="Shorter side of an image in pixels; most use 224.")
    ] = None,
    max_aspect: Annotated[float | None, typer.Option(min=1, help="Longer side over shorter; most use 3.")] = None,
    min_seconds: Annotated[float | None, typer.Option(min=0, help="Of speech or film.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Of speech or film.")] = None,
    min_characters: Annotated[int | None, typer.Option(min=0, help="Of the response.")] = None,
    max_characters: Annotated[int | None, typer.Option(min=0, help="Of the response.")] = None,
    unique: Annotated[
        list[str] | None, typer.Option(help="Keep the first of rows with the same value of this key; several times.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images at once.")] = None,
    device: Device = "auto",
    limit: Limit = None,
    workers: Workers = 1,
    gpus: Gpus = None,
    ray: Ray = None,
    quiet: Quiet = False,
) -> None:
    """Only what fits: image and text alike, sides, aspect, seconds, characters, no duplicates."""
    options = {"clip": clip, "min_similarity": min_similarity, "text": text, "min_side": min_side}
    options |= {"max_aspect": max_aspect, "min_seconds": min_seconds, "max_seconds": max_seconds}
    options |= {"min_characters": min_characters, "max_characters": max_characters, "unique": unique}
    options |= {"batch_size": batch_size, "device": device}
    _do("filter", source, out, options, limit, workers, gpus, ray, quiet)


def draw(
    source: Manifest,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Rows.")] = ...,
    seed: Annotated[int | None, typer.Option(help="Another number, other rows. [1]")] = None,
    without: Annotated[
        list[Path] | None, typer.Option(help="Manifest whose images must not be drawn; several times.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Some rows by seed: always the same ones."""
    _do("draw", source, out, {"count": count, "seed": seed, "without": without}, None, quiet=quiet)


def instructions(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Manifest to write (.jsonl).")],
    describe: Annotated[Path | None, typer.Option(help="Pictures described at length: minigpt4. [3,500 rows]")] = None,
    recognise: Annotated[Path | None, typer.Option(help="Speech: aishell-2. [2,000]")] = None,
    answer: Annotated[Path | None, typer.Option(help="Spoken questions about pictures: vsdial-cn. [1,000]")] = None,
    watch: Annotated[Path | None, typer.Option(help="Films described: activitynet. [1,000]")] = None,
    count: Annotated[
        list[str] | None, typer.Option(metavar="TASK=N", help="Another number of rows, e.g. watch=500; several times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another number, other rows and wordings. [1]")] = None,
    quiet: Quiet = False,
) -> None:
    """The instructions of stage 3 from manifests: five wordings for each task."""
    counts = dict(each.partition("=")[::2] for each in count or ())
    options = {"describe": describe, "recognise": recognise, "answer": answer, "watch": watch, "seed": seed}
    _do("instructions", None, out, options | {"counts": counts or None}, None, quiet=quiet)


def check(
    source: Manifest,
    out: Out,
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Longest speech. [30]")] = None,
    min_seconds: Annotated[float | None, typer.Option(min=0, help="Shortest speech. [0.1]")] = None,
    max_characters: Annotated[int | None, typer.Option(min=1, help="Longest response.")] = None,
    limit: Limit = None,
    workers: Workers = 1,
    ray: Ray = None,
    quiet: Quiet = False,
) -> None:
    """Open every file: what is broken, silent, empty or too long is left out and listed; one page shows the rest."""
    options = {"max_seconds": max_seconds, "min_seconds": min_seconds, "max_characters": max_characters}
    _do("check", source, out, options, limit, workers, None, ray, quiet)


def shard(
    source: Manifest,
    out: Out,
    per_shard: Annotated[int | None, typer.Option(min=1, help="Samples of a tar.")] = None,
    limit: Limit = None,
    workers: Workers = 1,
    ray: Ray = None,
    quiet: Quiet = False,
) -> None:
    """Media into tar shards (WebDataset), OUT is their index: training reads them in order or at random."""
    _do("shard", source, out, {"per_shard": per_shard}, limit, workers, None, ray, quiet)


def units(
    manifests: Annotated[list[Path], typer.Argument(metavar="IN", help="Manifests that a recogniser trains on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe's model.tokenizer: a folder.")],
    min_count: Annotated[int, typer.Option(min=1, help="Rarer characters are left out.")] = 1,
) -> None:
    """The characters that a recogniser writes: units.txt, from what is said in manifests."""
    from xllm.steps.units import write_units

    kept, rare = write_units(manifests, output, min_count)
    note(f"{output / 'units.txt'}: {kept:,} characters, {rare:,} rarer ones left out")


COMMANDS = {
    "translate": translate,
    "turns": turns,
    "synthesize": synthesize,
    "filter": filter_rows,
    "draw": draw,
    "instructions": instructions,
    "check": check,
    "shard": shard,
    "units": units,
}
