"""`xllm masr`: speech to text with a picture of what is spoken about (paper 4.3, Table 4)."""

from dataclasses import replace
from typing import Annotated

import typer

from xllm_cli.console import show_warnings
from xllm_cli.recognition import (
    BatchSize,
    Device,
    Draft,
    DraftThreshold,
    Engine,
    Form,
    Gpus,
    Inputs,
    Model,
    Output,
    Quiet,
    Resume,
    Track,
)


def masr(
    inputs: Inputs,
    image: Annotated[
        list[str] | None, typer.Option(help="Picture of what is spoken about; manifests may bring their own.")
    ] = None,
    caption: Annotated[str | None, typer.Option(help="What the picture shows; read by --engine cif.")] = None,
    model: Model = "tiny",
    engine: Engine = "xllm",
    form: Form = "txt",
    output: Output = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    gpus: Gpus = None,
    draft: Draft = True,
    draft_threshold: DraftThreshold = None,
    track: Track = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Transcribe speech while looking at a picture; all else is as in `xllm asr`.

    In a manifest, `image` and `caption` of a row are its own; `--image` and `--caption` serve the other inputs.

    Exit code: 0 all done, 1 some inputs failed or are damaged, 2 wrong usage.
    """
    from xllm_cli.inputs import Failure, expand
    from xllm_cli.recognition import recognise

    show_warnings(quiet)
    drafts = {"drafts": draft, "draft_threshold": draft_threshold}
    sources, failures = expand(inputs, seeing=True)
    seen = []
    for source in sources:
        pictures, said = source.pictures or tuple(image or ()), source.caption or caption
        source = replace(source, pictures=pictures, caption=said, track=track)
        if source.pictures:
            seen.append(source)
        else:
            failures.append(
                Failure(source.path, f"{source.path}: no picture: give --image, or 'image' in the manifest")
            )
    recognise(seen, failures, model, engine, form, output, batch_size, device, gpus, drafts, resume, quiet)
