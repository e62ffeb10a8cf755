"""`xllm export`: a trained system as one folder to give away."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xllm_cli.console import note, show_warnings


class Bits(StrEnum):
    """How a weight is kept."""

    THIRTY_TWO, SIXTEEN, EIGHT = "32", "16", "8"


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, or a model of the package.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where it goes; must be empty or not there.")],
    report: Annotated[
        Path | None, typer.Option(help="Measured figures in Markdown: `xllm eval … -o DIR` writes report.md.")
    ] = None,
    bits: Annotated[
        Bits, typer.Option(help="Of a weight: 32 to train on from, 16, or 8 with a scale for each row.")
    ] = Bits.SIXTEEN,
    llm: Annotated[
        str | None, typer.Option(help="The language model's name for those who get it: on the hub, or a folder.")
    ] = None,
    beside: Annotated[
        str | None, typer.Option(help="Leave out the encoders that this model has, and take them from there.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No warnings.")] = False,
) -> None:
    """Everything that was trained in a run and the runs it began from, in one folder with a model card.

    Frozen parts that have a home of their own (the language model, the image encoder) are named, not copied.
    """
    from xllm.sharing import export as write

    show_warnings(quiet)
    counts = write(run, folder, bits=int(bits.value), report=report, llm=llm, beside=beside)
    parts = ", ".join(f"{name} {count / 1e6:,.1f}M" for name, count in counts.items())
    note(f"{folder}: {parts}; README.md is its model card, read it before you share it")
