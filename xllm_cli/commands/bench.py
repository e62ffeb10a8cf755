"""`xllm bench`: this machine's figures in one table."""

import json
import time
from typing import Annotated

import typer

from xllm import PACKAGED
from xllm_cli.console import FAILED, note, result, show_rows, show_warnings
from xllm_cli.recognition import BatchSize, Device, Model


def bench(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Recordings: files, folders, 'globs', manifests.")
    ],
    model: Model = PACKAGED,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How fast this machine is at each step of recognition, on your own recordings."""
    show_warnings(quiet=True)
    begun = time.perf_counter()
    from xllm.bench import bench as measure
    from xllm.device import resolve_device

    started = time.perf_counter() - begun
    from xllm_cli.inputs import expand

    sources, failures = expand(inputs)
    for failure in failures:
        note(f"error: {failure.message}")
    where = resolve_device(device)
    figures = {"import, s": started, **measure(model, [source.path for source in sources], where, batch_size)}
    if as_json:
        result(json.dumps({"device": str(where), **figures}, indent=2) + "\n")
    else:
        show_rows([(f"{model} on {where}", ""), *((name, f"{value:,.4g}") for name, value in figures.items())])
    if failures:
        raise typer.Exit(FAILED)
