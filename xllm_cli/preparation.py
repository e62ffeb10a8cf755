"""What all of `xllm prepare-data` shares: options, progress with a rate, the report of what became of every input."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from xllm_cli.console import FAILED, note, progress_bar

Manifest = Annotated[Path, typer.Argument(metavar="IN", help="Manifest to read (.jsonl).")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Manifest to write (.jsonl), or a folder for it.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many inputs.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that work at once; the result is the same.")]
Gpus = Annotated[str | None, typer.Option(help="Share the work among these GPUs, e.g. 0,1, or all.")]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Work on a Ray cluster: auto, host:port or local; --workers says how many."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def mapper(workers: int, gpus: str | None = None, ray: str | None = None):
    """How chunks are worked on: here, in processes, or on a cluster."""
    if ray is not None:  # which chooses among the cluster's GPUs
        from xllm.steps.cluster import cluster

        return cluster(ray, workers, gpus=1.0 if gpus else 0.0)
    from xllm.steps.workers import processes

    each = []
    if gpus is not None:
        from xllm.device import resolve_gpus, visible_gpus

        each = [visible_gpus([index]) for index in resolve_gpus(gpus)]
    return processes(max(workers, len(each)), each)


def manifest_at(out: Path, source: Path) -> Path:
    """Where a step writes: `out`, or a file of the source's name in that folder."""
    return out if out.suffix == ".jsonl" else out / source.name


@contextmanager
def showing(quiet: bool) -> Iterator[Callable]:
    """A function to be told what is done, of how many inputs, and a report: shows how far it is, how fast, how long."""
    with progress_bar(quiet, "{task.fields[rate]}") as bar:
        task, label, began = bar.add_task("", total=None, rate=""), None, (0.0, 0)

        def show(what: str, total: int | None, report) -> None:
            nonlocal label, began
            if what != label:
                label, began = what, (time.monotonic(), report.inputs)
            seconds = time.monotonic() - began[0]
            rate = f"{(report.inputs - began[1]) / seconds:,.0f} rows/s" if seconds > 0.5 else ""
            bar.update(task, description=what, total=total, completed=report.inputs, rate=rate)

        yield show


def tell(out: Path, report) -> None:
    """One line: what became of all inputs, and where the rest of the story is."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in {**report.dropped, **report.failed}.items())
    dropped, failed = sum(report.dropped.values()), sum(report.failed.values())
    counts = f"{report.inputs:,} in, {report.kept:,} kept, {dropped:,} dropped, {failed:,} failed"
    rows = f", {report.rows:,} rows" if report.rows != report.kept else ""
    note(f"{out}: {counts}{rows}" + (f" ({reasons})" if reasons else ""))


def finish(reports: list) -> None:
    """End with 1 when some inputs failed."""
    if any(report.failed for report in reports):
        raise typer.Exit(FAILED)
