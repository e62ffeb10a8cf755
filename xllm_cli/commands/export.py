"""`xllm export`: a trained system as one folder to give away."""

from pathlib import Path
from typing import Annotated

import typer

from xllm_cli.console import note, show_warnings


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, or a model of the package.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where it goes; must be empty or not there.")],
    report: Annotated[
        Path | None, typer.Option(help="Measured figures in Markdown: `xllm eval … -o DIR` writes report.md.")
    ] = None,
    float32: Annotated[
        bool, typer.Option("--float32", help="Whole weights, twice as large, to train on from.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No warnings.")] = False,
) -> None:
    """Everything that was trained in a run and the runs it began from, in one folder with a model card.

    Frozen parts that have a home of their own (the language model, the image encoder) are named, not copied.
    """
    from xllm.sharing import export as write

    show_warnings(quiet)
    counts = write(run, folder, half=not float32, report=report)
    parts = ", ".join(f"{name} {count / 1e6:,.1f}M" for name, count in counts.items())
    note(f"{folder}: {parts}; README.md is its model card, read it before you share it")
