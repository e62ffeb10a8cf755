"""`xllm prepare-data demo`: a small world to train on, made from nothing."""

from pathlib import Path
from typing import Annotated

import typer

from xllm_cli.console import note, progress_bar


def demo(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for media, manifests and tokenizer.")],
    share: Annotated[float, typer.Option(min=0.001, max=10, help="Of the usual number of samples.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes another world of the same kind.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Spoken digits and questions, coloured shapes, shapes that move, and texts: what recipes/demo.yaml trains on.

    Nothing is needed and nothing downloaded; the same seed makes the same files.
    """
    from xllm.corpora.demo import prepare

    with progress_bar(quiet) as bar:
        tasks = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        counts = prepare(output, share, seed, show)
    for name, count in counts.items():
        note(f"{name:<22}{count:>8}")
    note(f"manifests are in {output}")
