"""`xllm eval`: how good a system is."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from xllm import PACKAGED
from xllm_cli.commands.llava_test import llava_test
from xllm_cli.console import FAILED, check_writable, command_line, note, progress_bar, result, show_rows, show_warnings
from xllm_cli.tables import OTHER_DATA, TWICE, answer_table, picture_table, speech_table

app = typer.Typer(no_args_is_help=True, help="Measure systems.")
app.command("llava-test")(llava_test)


Manifest = Annotated[Path, typer.Argument(help="Samples with speech and response (docs/data.md).")]
Model = Annotated[str, typer.Option(help=f"A model of the package ({PACKAGED}) or a checkpoint folder.")]
Engine = Annotated[Literal["both", "xllm", "cif"], typer.Option(help="Which engine, or both side by side.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder for per-sample JSONL, summary and report (.json, .md, .html)."),
]
Baseline = Annotated[Path | None, typer.Option(help="Output folder of another run, to compare with.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Pieces of speech recognised at once.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.command("asr")
def asr(
    manifest: Manifest,
    model: Model = PACKAGED,
    engine: Engine = "both",
    output: Output = None,
    baseline: Baseline = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Character error rate with its 95% interval, both engines side by side, and the worst samples."""
    from xllm.evaluation.recognition import deaf_to_pictures, read_references

    show_warnings(quiet)
    utterances, broken = read_references(manifest)
    utterances = deaf_to_pictures(utterances)
    columns = {name: (name, utterances) for name in _engines(engine)}
    settings = {"manifest": str(manifest), "model": model}
    _evaluate("asr", settings, columns, [("cif", "xllm")], broken, output, baseline, batch_size, device, as_json, quiet)


@app.command("masr")
def masr(
    manifest: Annotated[Path, typer.Argument(help="Samples with speech, image and response (docs/data.md).")],
    model: Model = PACKAGED,
    engine: Engine = "both",
    swap: Annotated[bool, typer.Option("--swap", help="Also with pictures of other samples (S+wrong).")] = False,
    output: Output = None,
    baseline: Baseline = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Character error rates from speech alone (S) and from speech and pictures (S+V), as in the paper's Table 4."""
    from xllm.evaluation.recognition import deaf_to_pictures, read_references, with_wrong_pictures

    show_warnings(quiet)
    found, broken = read_references(manifest)
    utterances = [u for u in found if u.pictures]
    broken += [f"{manifest}: sample {u.id!r} has no image" for u in found if not u.pictures]
    columns, pairs = {}, []
    for name in _engines(engine):
        columns |= {f"{name} S": (name, deaf_to_pictures(utterances)), f"{name} S+V": (name, utterances)}
        pairs.append((f"{name} S", f"{name} S+V"))
        if swap:
            columns[f"{name} S+wrong"] = (name, with_wrong_pictures(utterances))
            pairs.append((f"{name} S", f"{name} S+wrong"))
    settings = {"manifest": str(manifest), "model": model}
    _evaluate("masr", settings, columns, pairs, broken, output, baseline, batch_size, device, as_json, quiet)


@app.command("answers")
def answers(
    manifest: Annotated[Path, typer.Argument(help="Questions with media and one right response (docs/data.md).")],
    model: Model = PACKAGED,
    swap: Annotated[bool, typer.Option("--swap", help="Also with each picture or film swapped for another.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="This many rows, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    output: Output = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Share of questions answered exactly, with its 95% interval; with --swap also when shown the wrong thing."""
    from xllm.errors import XLLMError
    from xllm.evaluation import report
    from xllm.evaluation.answers import accuracy, read_questions, swapped
    from xllm.evaluation.answers import answers as ask
    from xllm.evaluation.samples import answered_samples
    from xllm.files import write_atomic, write_jsonl_atomic

    show_warnings(quiet)
    rows, broken = read_questions(manifest, limit, seed)
    for error in broken:
        note(f"error: {error}")
    if output:
        check_writable(output)
    loaded = _load(model, device)
    settings = {"manifest": str(manifest), "model": model}
    summary: dict = dict(settings)
    failed, samples = len(broken), []
    with progress_bar(quiet) as bar:
        for name, asked in {"right": rows, **({"swapped": swapped(rows)} if swap else {})}.items():
            task = bar.add_task(name, total=len(asked))
            results = list(ask(loaded, asked, batch_size, done=partial(bar.advance, task)))
            for error in (r for r in results if isinstance(r, XLLMError)):
                note(f"error: {error}")
            failed += sum(isinstance(r, XLLMError) for r in results)
            scored = [r for r in results if not isinstance(r, XLLMError)]
            summary[name] = asdict(accuracy(scored)) if scored else None
            if output:
                write_jsonl_atomic(output / f"answers-{name}.jsonl", (r.as_dict() for r in scored))
                samples += answered_samples(name, asked, results)
    summary["failed"] = failed
    if output:
        write_atomic(output / "summary.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    if as_json:
        result(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    else:
        for name in ("right", "swapped"):
            if counted := summary.get(name):
                result("{0:<8} {percent:5.1f}% ({low:.1f}-{high:.1f}) of {questions}\n".format(name, **counted))
    if output:
        figures = {name: value for name, value in summary.items() if name not in settings}
        tables = {"By what was shown": answer_table({name: figures[name] for name in figures if name != "failed"})}
        notes = [f"{failed} of {len(samples) + len(broken)} failed and are left out."] if failed else []
        settings |= {"limit": limit, "seed": seed, "batch_size": batch_size, "device": device}
        report.write(output, report.Report("Answers", tables, figures, samples, settings, notes, command_line()))
    if failed:
        raise typer.Exit(FAILED)


def _load(model: str, device: str):
    from xllm.device import resolve_device
    from xllm.model import XLLM

    return XLLM.from_pretrained(model, resolve_device(device))


def _engines(engine: str) -> tuple[str, ...]:
    return ("cif", "xllm") if engine == "both" else (engine,)


def _evaluate(task, settings, columns, pairs, broken, output, baseline, batch_size, device, as_json, quiet) -> None:
    """Run every column (engine, utterances), compare the `pairs`, then write and print; exits with 1 on failures."""
    from xllm.evaluation.recognition import difference, summarize
    from xllm.files import write_atomic, write_jsonl_atomic

    samples = next(iter(columns.values()))[1]
    others = _baseline(baseline, task, columns, samples) if baseline else {}
    if output:
        check_writable(output)
    runs = _measure(columns, settings["model"], batch_size, device, quiet) if samples else {}
    unheard = {position: message for run in runs.values() for position, message in run.failures.items()}
    failures = [*broken, *(unheard[position] for position in sorted(unheard))]
    for failure in failures:
        note(f"error: {failure}")

    scores = {name: run.scores for name, run in runs.items() if run.scores}
    summary: dict = {**settings, "failed": len(failures), "failures": failures}
    summary["engines"] = {
        name: asdict(summarize(scores[name])) | {"real_time_factor": runs[name].real_time_factor} for name in scores
    }
    summary["differences"] = {
        f"{b} minus {a}": asdict(difference(scores[a], scores[b])) for a, b in pairs if a in scores and b in scores
    }
    for name in scores.keys() & others.keys():
        if gap := difference(others[name], scores[name]):
            summary["engines"][name]["minus baseline"] = asdict(gap)
    if output:
        for name, run in runs.items():
            write_jsonl_atomic(output / _file(task, name), (s.as_dict() for s in run.scores))
        write_atomic(output / "summary.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    if as_json:
        result(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    else:
        show_rows(_rows(summary))
        _show_worst(scores)
    if output:
        used = settings | {"batch_size": batch_size, "device": device}
        _report(output, task, used, summary, {name: (columns[name][1], run) for name, run in runs.items()})
    if failures:
        note(f"{len(failures)} of {len(samples) + len(broken)} samples failed")
        raise typer.Exit(FAILED)


def _report(output: Path, task: str, settings: dict, summary: dict, runs: dict) -> None:
    """The report of a recognition; `runs` are the utterances and the run of each column."""
    from xllm.evaluation.report import Report, write
    from xllm.evaluation.samples import heard_samples

    if task == "masr":
        title, table, notes = "Recognition of speech beside pictures", picture_table(summary["engines"]), [TWICE]
    else:
        title, notes = "Recognition of speech", []
        table = speech_table(summary["engines"], Path(settings["manifest"]).name)
    tables = {"As the paper's Table 4": table, "In detail": _rows(summary)}
    figures = {name: value for name, value in summary.items() if name not in settings}
    samples = [s for name, (utterances, run) in runs.items() for s in heard_samples(name, utterances, run)]
    notes = [OTHER_DATA, *notes]
    if summary["failed"]:
        notes += [f"{summary['failed']} samples failed and are left out; `failures` in report.json says why."]
    write(output, Report(title, tables, figures, samples, settings, notes, command_line()))


def _file(task: str, column: str) -> str:
    return f"{task}-{column.replace(' ', '-')}.jsonl"


def _baseline(folder: Path, task: str, columns, utterances) -> dict:
    """Scores of another run by engine; it must have a sample in common with this one."""
    from xllm.errors import ConfigError
    from xllm.evaluation.recognition import read_scores
    from xllm.text import normalize

    wanted = {(u.id, normalize(u.reference)) for u in utterances}
    scores = {name: read_scores(folder / _file(task, name)) for name in columns}
    for name, other in scores.items():
        if wanted.isdisjoint((s.id, s.reference) for s in other):
            raise ConfigError(f"--baseline {folder}: {_file(task, name)} has no sample of this manifest")
    return scores


def _measure(columns, model: str, batch_size: int, device: str, quiet: bool) -> dict:
    """A run for each column."""
    from xllm.evaluation.recognition import transcribe_manifest

    loaded = _load(model, device)
    runs = {}
    with progress_bar(quiet) as bar:
        for name, (engine, utterances) in columns.items():
            task = bar.add_task(name, total=len(utterances))
            advance = partial(bar.advance, task)
            runs[name] = transcribe_manifest(utterances, loaded, engine, batch_size, advance)
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
    for name, gap in summary["differences"].items():
        place = list(summary["engines"]).index(name.partition(" minus ")[0])
        rows.append((name, *[""] * place, _gap(gap), *[""] * (len(columns) - place - 1)))
    rows.append(("failed", *[str(summary["failed"])] * max(1, len(columns))))
    return rows


def _gap(gap: dict | None) -> str:
    return "{points:+.2f} ({low:+.2f}..{high:+.2f})".format(**gap) if gap else "-"


def _show_worst(scores: dict) -> None:
    """The ten worst samples of each engine, aligned."""
    from xllm.evaluation.recognition import aligned, worst

    for name, samples in scores.items():
        if shown := worst(samples):
            result(f"\nworst of {name}:\n")
        for sample in shown:
            above, below = aligned(sample)
            result(f"{100 * sample.cer:5.0f}%  {sample.id}\n  reference  {above}\n  hypothesis {below}\n")
