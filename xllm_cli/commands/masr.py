"""`xllm masr`: speech to text with a picture of what is spoken about (paper 4.3, Table 4)."""

from dataclasses import replace
from typing import Annotated

import typer

from xllm import PACKAGED
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

MANIFEST = "or 'image' or 'caption' in the manifest"


def masr(
    inputs: Inputs,
    image: Annotated[
        list[str] | None, typer.Option(help="Picture of what is spoken about; manifests may bring their own.")
    ] = None,
    caption: Annotated[str | None, typer.Option(help="What is spoken about, in words; both engines read it.")] = None,
    model: Model = PACKAGED,
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
    """Transcribe speech beside a picture, a caption or both; all else is as in `xllm asr`.

    In a manifest, `image` and `caption` of a row are its own; `--image` and `--caption` serve the other inputs.
    What the system cannot use is a warning; where it could use nothing of what is given, it does not start.

    Exit code: 0 all done, 1 some inputs failed or are damaged, 2 wrong usage.
    """
    from xllm_cli.inputs import Failure, expand, from_pipe
    from xllm_cli.recognition import recognise

    show_warnings(quiet)
    drafts = {"drafts": draft, "draft_threshold": draft_threshold}
    sources, failures = expand(inputs, seeing=True)
    pictures = tuple(from_pipe(path) or path for path in image or ())
    seen = []
    for source in sources:
        shown, said = source.pictures or pictures, source.caption or caption
        source = replace(source, pictures=shown, caption=said, track=track)
        if shown or (said or "").strip():
            seen.append(source)
        else:
            failures.append(Failure(source.path, f"{source.path}: no picture: give --image or --caption, {MANIFEST}"))
    recognise(seen, failures, model, engine, form, output, batch_size, device, gpus, drafts, resume, quiet)
