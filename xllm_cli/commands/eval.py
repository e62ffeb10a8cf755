"""`xllm eval`: how good a system is."""

import json
import time
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
    from xllm.evaluation.recognition import aligned, difference, summarize, worst
    from xllm.files import write_atomic, write_jsonl_atomic

    show_warnings(quiet)
    references, failures = _references(manifest)
    engines = ("cif", "xllm") if engine == "both" else (engine,)
    scores, speeds = {}, {}
    for name in engines:
        scores[name], broken, speeds[name] = _measure(references, model, name, batch_size, device, quiet)
    failures += broken
    for failure in failures:
        note(f"error: {failure}")
    summary: dict = {"manifest": str(manifest), "model": model, "failed": len(failures), "engines": {}}
    for name in engines:
        if scores[name]:
            summary["engines"][name] = asdict(summarize(scores[name])) | {"real_time_factor": speeds[name]}
    if len(summary["engines"]) == 2:
        summary["xllm minus cif"] = difference(scores["cif"], scores["xllm"])
    if baseline is not None:
        for name in summary["engines"]:
            summary["engines"][name]["minus baseline"] = difference(_read(baseline, name), scores[name])
    if output is not None:
        for name in engines:
            write_jsonl_atomic(output / f"asr-{name}.jsonl", (s.as_dict() for s in scores[name]))
        write_atomic(output / "summary.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    if as_json:
        result(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    else:
        result(_table(summary))
        for name in summary["engines"]:
            if shown := worst(scores[name]):
                result(f"\nworst of {name}:\n")
            for sample in shown:
                above, below = aligned(sample)
                result(f"{100 * sample.cer:5.0f}%  {sample.id}\n  reference  {above}\n  hypothesis {below}\n")
    if failures:
        note(f"{len(failures)} of {len(references) + len(failures) - len(broken)} samples failed")
        raise typer.Exit(FAILED)


def _references(manifest: Path):
    """Sources with their reference texts, and what is wrong with broken lines."""
    from xllm.errors import ManifestError
    from xllm.manifest import parse_line
    from xllm.transcribe import Source

    if not manifest.is_file():
        raise ManifestError(f"{manifest}: no such manifest")
    references, failures = [], []
    for number, line in enumerate(manifest.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{manifest}:{number}"
        try:
            row = parse_line(line, where)
            if row["speech"] is None or row["response"] is None:
                raise ManifestError(f"{where}: needs 'speech' and 'response'")
            references.append((Source(row["id"], str(manifest.parent / row["speech"])), row["response"]))
        except ManifestError as error:
            failures.append(str(error))
    return references, failures


def _measure(references, model: str, engine: str, batch_size: int, device: str, quiet: bool):
    """Scores of one engine, what failed, and seconds of work per second of sound."""
    from xllm.device import resolve_device
    from xllm.errors import XLLMError
    from xllm.evaluation.recognition import score
    from xllm.model import XLLM
    from xllm.transcribe import transcribe

    loaded = XLLM.from_pretrained(model, resolve_device(device))
    scores, failures, seconds = [], [], 0.0
    started = time.perf_counter()
    with progress_bar(quiet) as bar:
        task = bar.add_task(engine, total=len(references))
        outcomes = transcribe([source for source, _ in references], loaded, engine, batch_size)
        for (source, reference), (_, outcome) in zip(references, outcomes, strict=True):
            bar.advance(task)
            if isinstance(outcome, XLLMError):
                failures.append(str(outcome))
                continue
            seconds += outcome.duration
            scores.append(
                score(source.id, source.path, reference, outcome.text, round(outcome.score, 4), outcome.duration)
            )
    return scores, failures, round((time.perf_counter() - started) / max(seconds, 1e-9), 4)


def _read(folder: Path, engine: str):
    """Scores of another run."""
    from xllm.errors import ConfigError
    from xllm.evaluation.recognition import Score

    path = folder / f"asr-{engine}.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Score(**{key: value for key, value in row.items() if key != "cer"}) for row in rows]
    except (OSError, json.JSONDecodeError, TypeError):
        raise ConfigError(f"--baseline {folder}: {path.name} is not there or not of `xllm eval asr -o`") from None


def _table(summary: dict) -> str:
    """Engines as columns of plain text."""
    rows = [("", *summary["engines"])]
    columns = list(summary["engines"].values())
    rows.append(("CER %", *(f"{c['cer']:.2f}" for c in columns)))
    rows.append(("95% interval", *(f"{c['low']:.2f}-{c['high']:.2f}" for c in columns)))
    for key in ("substitutions", "deletions", "insertions", "characters", "utterances"):
        rows.append((key, *(str(c[key]) for c in columns)))
    rows.append(("wrong utterances %", *(f"{c['wrong_utterances']:.1f}" for c in columns)))
    rows.append(("real-time factor", *(f"{c['real_time_factor']:.3f}" for c in columns)))
    if any("minus baseline" in c for c in columns):
        rows.append(("minus baseline", *("{:+.2f} ({:+.2f}..{:+.2f})".format(*c["minus baseline"]) for c in columns)))
    if "xllm minus cif" in summary:
        rows.append(("xllm minus cif", "{:+.2f} ({:+.2f}..{:+.2f})".format(*summary["xllm minus cif"])))
    rows.append(("failed", str(summary["failed"])))
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=False))])
        for row in rows
    )
    return "".join(line.rstrip() + "\n" for line in lines)
