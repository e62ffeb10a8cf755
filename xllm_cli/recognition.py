"""What `asr` and `masr` share: sources in, result files or stdout out, one line for every input that fails."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from xllm import PACKAGED
from xllm_cli.console import FAILED, note, progress_bar, result
from xllm_cli.escape import one_line, to_json

Format = Literal["txt", "json", "jsonl", "srt", "vtt", "tsv"]
Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Files, folders, 'globs', manifests (.jsonl), or - for stdin."),
]
Model = Annotated[str, typer.Option(help=f"A model of the package ({PACKAGED}) or a checkpoint folder.")]
Engine = Annotated[
    Literal["xllm", "cif"],
    typer.Option(help="Who writes: the language model, or the CIF recogniser alone (faster)."),
]
Form = Annotated[Format, typer.Option("--format", "-f", help="What to write.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for one file per input, instead of stdout.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pieces of speech recognised at once.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Gpus = Annotated[str | None, typer.Option(help="Split the inputs over these GPUs, e.g. 0,1, or all.")]
Draft = Annotated[
    bool,
    typer.Option("--draft/--no-draft", help="Verify the recogniser's text, or write token by token: the same, slower."),
]
DraftThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Lossy: take the recogniser's text where each of its characters is at least this likely, without the LLM.",
    ),
]
Track = Annotated[
    int | None, typer.Option(min=1, help="Which of several audio tracks, from 1; else the file's default track.")
]
Resume = Annotated[bool, typer.Option("--resume", help="With -o: skip inputs already done.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings.")]


def recognise(
    sources,
    failures,
    model: str,
    engine: str,
    form: str,
    output: Path | None,
    batch_size: int,
    device: str,
    gpus: str | None,
    drafts: dict,
    resume: bool,
    quiet: bool,
) -> None:
    """Transcribe `sources` and write as asked; exits with 1 when they or the `failures` before were not all done."""
    from xllm.errors import ConfigError, XLLMError
    from xllm.timeline import describe
    from xllm_cli.writers import as_dict, write

    for failure in failures:
        note(f"error: {failure.message}")
    if output is None and resume:
        raise ConfigError("--resume needs -o: what is printed cannot be resumed")
    if output is None and form in ("srt", "vtt", "tsv") and len(sources) > 1:
        raise ConfigError(f"several inputs in one {form}: give a folder with -o")
    inputs, failed = len(sources) + len(failures), len(failures)
    collected = []
    with _outputs(output, model, engine, form, drafts) as outputs, progress_bar(quiet) as bar:
        if outputs:
            results = outputs.plan(sources, resume)
            if resume:
                note(f"{sum(one.done for one in results)} already done")
                results = [one for one in results if not one.done]
                sources = [one.source for one in results]
        task = bar.add_task("transcribing", total=len(sources))
        for number, (source, outcome) in enumerate(_run(sources, model, engine, batch_size, device, gpus, drafts)):
            bar.advance(task)
            failure = outcome if isinstance(outcome, XLLMError) else None
            lost = [] if failure else outcome.lost
            if failure:
                pass
            elif outputs:
                failure = outputs.write(results[number], write(outcome, form), done=not lost)
            elif form == "json" and len(sources) > 1:
                collected.append(as_dict(outcome))
            elif form == "txt" and len(sources) > 1:
                result(f"{one_line(source.path)}\t{one_line(outcome.text)}\n")
            else:
                result(write(outcome, form))
            if failure or lost:
                failed += 1
                note(f"error: {failure or f'{outcome.path}: {describe(lost)}; the rest is written'}")
            if not failure and outcome.unclear:
                places = ", ".join(f"{start:.2f}-{end:.2f}" for start, end in outcome.unclear)
                note(f"{outcome.path}: no clear speech at {places} s, left out")
    if collected:
        result(to_json(collected, indent=2) + "\n")
    if failed:
        note(f"{failed} of {inputs} inputs failed")
        raise typer.Exit(FAILED)


def _outputs(folder: Path | None, model: str, engine: str, form: str, drafts: dict):
    """The output folder, if there is one; results depend on what is given here and on their inputs."""
    if folder is None:
        return nullcontext()
    from xllm.identity import of_model
    from xllm_cli.outputs import Outputs

    settings = {"model": of_model(model), "engine": engine, "format": form, "threshold": drafts["draft_threshold"]}
    return Outputs(folder, form, settings)


def _run(sources, model: str, engine: str, batch_size: int, device: str, gpus: str | None, drafts: dict):
    """Outcomes of all sources, on one device or on several GPUs."""
    if not sources:
        return iter(())
    from xllm.context import ContextReader
    from xllm.device import resolve_device, resolve_gpus
    from xllm.errors import ConfigError
    from xllm.model import XLLM
    from xllm.transcribe import context_kinds, devices_run, transcribe

    if gpus is None:
        loaded = XLLM.from_pretrained(model, resolve_device(device))
        for name, value in drafts.items():
            setattr(loaded, name, value)
        ContextReader(loaded, engine).require(context_kinds(sources))
        return transcribe(sources, loaded, engine, batch_size)
    if device != "auto":
        raise ConfigError("--gpus says where: leave out --device")
    devices = [f"cuda:{index}" for index in resolve_gpus(gpus)]
    return devices_run(sources, model, devices, engine, batch_size, **drafts)
