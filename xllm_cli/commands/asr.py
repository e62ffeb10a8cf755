"""`xllm asr`: speech to text."""

from dataclasses import replace

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


def asr(
    inputs: Inputs,
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
    """Transcribe speech: text on stdout in the order of the inputs, everything else on stderr.

    One input prints its text alone; several print `path<TAB>text`.

    jsonl and json hold the time and score of every character.

    Exit code: 0 all done, 1 some inputs failed or are damaged, 2 wrong usage.
    """
    from xllm_cli.inputs import expand
    from xllm_cli.recognition import recognise

    show_warnings(quiet)
    drafts = {"drafts": draft, "draft_threshold": draft_threshold}
    sources, failures = expand(inputs)
    sources = [replace(source, track=track) for source in sources]
    recognise(sources, failures, model, engine, form, output, batch_size, device, gpus, drafts, resume, quiet)
