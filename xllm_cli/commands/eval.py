"""`xllm eval`: how good a system is."""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from xllm_cli.console import FAILED, note, progress_bar, result, show_warnings

app = typer.Typer(no_args_is_help=True, help="Measure systems.")


@app.callback()
def measures() -> None:
    pass  # keeps `asr` a subcommand while it is the only one


@app.command("asr")
def asr(
    manifest: Annotated[Path, typer.Argument(help="Samples with speech and response (docs/data.md).")],
    model: Annotated[str, typer.Option(help="A model of the package (tiny) or a checkpoint folder.")] = "tiny",
    engine: Annotated[
        Literal["both", "xllm", "cif"], typer.Option(help="Which engine, or both side by side.")
    ] = "both",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for per-sample JSONL and summary.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="Output folder of another run, to compare with.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pieces of speech recognised at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Character error rate with its 95% interval, both engines side by side, and the worst samples."""
    from xllm.evaluation.recognition import difference, read_references, summarize
    from xllm.files import write_atomic, write_jsonl_atomic

    show_warnings(quiet)
    engines = ("cif", "xllm") if engine == "both" else (engine,)
    utterances, broken = read_references(manifest)
    others = _baseline(baseline, engines, utterances) if baseline else {}
    if output:
        _check_writable(output)
    runs = _measure(utterances, model, engines, batch_size, device, quiet)
    unheard = {position: message for run in runs.values() for position, message in run.failures.items()}
    failures = [*broken, *(unheard[position] for position in sorted(unheard))]
    for failure in failures:
        note(f"error: {failure}")

    scores = {name: run.scores for name, run in runs.items() if run.scores}
    summary: dict = {"manifest": str(manifest), "model": model, "failed": len(failures), "failures": failures}
    summary["engines"] = {
        name: asdict(summarize(scores[name])) | {"real_time_factor": runs[name].real_time_factor} for name in scores
    }
    if len(scores) == 2:
        summary["xllm minus cif"] = asdict(difference(scores["cif"], scores["xllm"]))
    for name in scores.keys() & others.keys():
        if gap := difference(others[name], scores[name]):
            summary["engines"][name]["minus baseline"] = asdict(gap)
    if output:
        for name, run in runs.items():
            write_jsonl_atomic(output / f"asr-{name}.jsonl", (s.as_dict() for s in run.scores))
        write_atomic(output / "summary.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    if as_json:
        result(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    else:
        _show_table(summary)
        _show_worst(scores)
    if failures:
        note(f"{len(failures)} of {len(utterances) + len(broken)} samples failed")
        raise typer.Exit(FAILED)


def _baseline(folder: Path, engines, utterances) -> dict:
    """Scores of another run by engine; it must have a sample in common with this one."""
    from xllm.errors import ConfigError
    from xllm.evaluation.recognition import read_scores
    from xllm.text import normalize

    wanted = {(u.id, normalize(u.reference)) for u in utterances}
    scores = {name: read_scores(folder / f"asr-{name}.jsonl") for name in engines}
    for name, other in scores.items():
        if wanted.isdisjoint((s.id, s.reference) for s in other):
            raise ConfigError(f"--baseline {folder}: asr-{name}.jsonl has no sample of this manifest")
    return scores


def _check_writable(folder: Path) -> None:
    """Learn before the work, not after it, that its results cannot be written."""
    from xllm.errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"-o {folder}: cannot write there: {error.strerror}; choose another folder") from None


def _measure(utterances, model: str, engines, batch_size: int, device: str, quiet: bool) -> dict:
    """A run for each engine; none when there is nothing to recognise."""
    if not utterances:
        return {}
    from xllm.device import resolve_device
    from xllm.evaluation.recognition import transcribe_manifest
    from xllm.model import XLLM

    loaded = XLLM.from_pretrained(model, resolve_device(device))
    runs = {}
    with progress_bar(quiet) as bar:
        for name in engines:
            task = bar.add_task(name, total=len(utterances))
            runs[name] = transcribe_manifest(utterances, loaded, name, batch_size, lambda task=task: bar.advance(task))
    return runs


def _rows(summary: dict) -> list[tuple[str, ...]]:
    """The summary as rows of text, a column for each engine; one empty column when all samples failed."""
    columns = list(summary["engines"].values())
    rows = [("", *(summary["engines"] or [""]))]
    if columns:
        rows.append(("CER %", *(f"{c['cer']:.2f}" for c in columns)))
        rows.append(("95% interval", *(f"{c['low']:.2f}-{c['high']:.2f}" for c in columns)))
        for key in ("substitutions", "deletions", "insertions", "characters", "utterances"):
            rows.append((key, *(str(c[key]) for c in columns)))
        rows.append(("wrong utterances %", *(f"{c['wrong_utterances']:.1f}" for c in columns)))
        rows.append(("real-time factor", *(f"{c['real_time_factor']:.3f}" for c in columns)))
    if any("minus baseline" in c for c in columns):
        rows.append(("minus baseline", *(_gap(c.get("minus baseline")) for c in columns)))
    if "xllm minus cif" in summary:
        rows.append(("xllm minus cif", *[""] * (len(columns) - 1), _gap(summary["xllm minus cif"])))
    rows.append(("failed", *[str(summary["failed"])] * max(1, len(columns))))
    return rows


def _gap(gap: dict | None) -> str:
    return "{points:+.2f} ({low:+.2f}..{high:+.2f})".format(**gap) if gap else "-"


def _show_table(summary: dict) -> None:
    """A table drawn by rich on a terminal, aligned plain text elsewhere."""
    rows = _rows(summary)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*rows[0])
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows[1:]:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        line = "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))])
        result(line.rstrip() + "\n")


def _show_worst(scores: dict) -> None:
    """The ten worst samples of each engine, aligned."""
    from xllm.evaluation.recognition import aligned, worst

    for name, samples in scores.items():
        if shown := worst(samples):
            result(f"\nworst of {name}:\n")
        for sample in shown:
            above, below = aligned(sample)
            result(f"{100 * sample.cer:5.0f}%  {sample.id}\n  reference  {above}\n  hypothesis {below}\n")
