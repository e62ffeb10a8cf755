"""`xllm eval llava-test`: answers about pictures, rated by a judge beside GPT-4's (paper 4.1, docs/evaluation.md)."""

import json
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from xllm_cli.console import FAILED, check_writable, command_line, note, progress_bar, result, show_rows, show_warnings

COLUMNS = {"conv": "Conversation", "detail": "Detail description", "complex": "Complex reasoning", "all": "All"}
# The paper's Table 1; LLaVA's row was judged by GPT-4, the others by ChatGPT.
PAPER = {
    "LLaVA (paper)": (83.1, 75.3, 96.5, 85.1),
    "X-LLM (paper)": (85.4, 83.5, 84.6, 84.5),
    "X-LLM w/ 4M (paper)": (74.8, 83.7, 86.5, 81.9),
    "X-LLM w/ 4M no init (paper)": (64.7, 71.9, 85.0, 73.8),
}
ASKED, ANSWERS, JUDGE, SCORES = "What is asked", "Answers", "Judge", "Scores"


def llava_test(
    data: Annotated[
        Path | None, typer.Option(help="Folder with LLaVA-test's files (docs/evaluation.md).", rich_help_panel=ASKED)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the COCO pictures; images/ in --data.", rich_help_panel=ASKED)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the run, which goes on with what is there, and of the report.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    until: Annotated[
        Literal["questions", "answers", "english", "reviews"] | None,
        typer.Option(help="Stop after this step.", rich_help_panel=ASKED),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Who answers: a model of the package or a checkpoint folder. [tiny]", rich_help_panel=ANSWERS
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Answers that exist, in Chinese or English: question_id, text.", rich_help_panel=ANSWERS),
    ] = None,
    translator: Annotated[
        str | None,
        typer.Option(
            help="Who translates: a file of translations, a folder of mBART-50, or a chat model. [--judge-model; "
            "question90_zh.json for the questions where --data has it]",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.", rich_help_panel=ANSWERS)] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Answers written at once.", rich_help_panel=ANSWERS)] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=ANSWERS)] = "auto",
    judge_model: Annotated[
        str | None,
        typer.Option(help="A chat model at OPENAI_BASE_URL, with OPENAI_API_KEY.", rich_help_panel=JUDGE),
    ] = None,
    both_orders: Annotated[
        bool, typer.Option("--both-orders", help="Ask again with GPT-4's answer first.", rich_help_panel=JUDGE)
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="Reviews of each question.", rich_help_panel=JUDGE)] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="Of the judge.", rich_help_panel=JUDGE)] = 0.0,
    seed: Annotated[int, typer.Option(help="Sent to the judge.", rich_help_panel=JUDGE)] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.", rich_help_panel=JUDGE)] = 8,
    max_calls: Annotated[int | None, typer.Option(min=0, help="Requests at most.", rich_help_panel=JUDGE)] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Start none once this is spent; needs --prices.", rich_help_panel=JUDGE)
    ] = None,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of a million tokens in, and out.", rich_help_panel=JUDGE),
    ] = None,
    reviews: Annotated[
        Path | None,
        typer.Option(
            help="Score these instead: JSON list or JSON Lines, as LLaVA's scripts write.", rich_help_panel=SCORES
        ),
    ] = None,
    from_text: Annotated[
        bool, typer.Option("--from-text", help="Also read scores stated in words.", rich_help_panel=SCORES)
    ] = False,
    paper_scoring: Annotated[
        bool, typer.Option("--paper-scoring", help="Unscored is -1, as in the paper.", rich_help_panel=SCORES)
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="Another run, or its reviews, to compare with.", rich_help_panel=SCORES)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.", rich_help_panel=SCORES)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no warnings.")] = False,
) -> None:
    """Answers about pictures, judged beside GPT-4's: relative scores with 95% intervals, beside the paper's Table 1.

    xllm eval llava-test --data llava_test --images val2014 --judge-model gpt-4o-mini -o run

    xllm eval llava-test --reviews review.json
    """
    from xllm.evaluation.judge import read_reviews

    show_warnings(quiet)
    if from_text and paper_scoring:
        raise typer.BadParameter("--from-text and --paper-scoring count the same reviews in two ways; choose one")
    other = read_reviews(baseline / "reviews.jsonl" if baseline.is_dir() else baseline) if baseline else []
    cases, pictures, missing = {}, {}, {}
    if reviews is not None:
        name, found = str(reviews), read_reviews(reviews)
        if output:
            check_writable(output)
    else:
        if data is None or output is None:
            raise typer.BadParameter("give --data and -o for a run, or --reviews to score what there is")
        if model and answers:
            raise typer.BadParameter("--model answers anew, --answers has been answered; choose one")
        if judge_model is None and until in (None, "reviews"):
            raise typer.BadParameter("who judges? give --judge-model, or stop before: --until english")
        if max_cost is not None and prices is None:
            raise typer.BadParameter("--max-cost needs --prices IN OUT, those of a million tokens")
        name = str(output)
        asking = {"concurrency": concurrency, "max_calls": max_calls, "max_cost": max_cost, "prices": prices}
        judge = {"temperature": temperature, "seed": seed, "samples": samples, "both_orders": both_orders}
        answering = {"max_tokens": max_tokens, "batch_size": batch_size}
        with progress_bar(quiet) as bar:
            found, cases, pictures, missing = _run(
                data,
                images or data / "images",
                output,
                until,
                answers,
                model or "tiny",
                translator,
                device,
                judge_model,
                judge,
                answering,
                asking,
                bar,
            )
    if found is not None:
        settings = {"from_text": from_text, "paper_scoring": paper_scoring, "baseline": baseline and str(baseline)}
        if reviews is None:
            settings["run"] = json.loads((output / "run.json").read_text(encoding="utf-8"))
        _show(name, found, other, settings, cases, pictures, output, as_json)
    for step, failures in missing.items():
        for reason in dict.fromkeys(map(str, failures.values())):
            names = [key for key, error in failures.items() if str(error) == reason]
            note(f"error: {step}: {len(names)} missing: {reason}: {', '.join(names)}")
    if any(missing.values()):
        note(f"what there is stands in {output}; the same command goes on with the rest")
        raise typer.Exit(FAILED)


def _run(
    data, images, output, until, answers, model, translator, device, judge_model, judge, answering, asking, bar
) -> tuple[list | None, dict, dict, dict]:
    """The steps up to `until`: reviews, if it comes to them, their cases and pictures, and what is missing by step."""
    from xllm.endpoint import Endpoint
    from xllm.evaluation.llava_test import QUESTIONS_ZH, Judge, Run, read_data
    from xllm.translation import translator as find_translator

    items, rules = read_data(data)
    tasks: dict[str, Any] = {}

    def progress(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = bar.add_task(step, total=total)
        bar.update(tasks[step], completed=done)

    @cache
    def endpoint() -> Endpoint:
        return Endpoint(output / "replies", **asking)

    @cache
    def loaded():
        from xllm.device import resolve_device
        from xllm.model import XLLM

        return XLLM.from_pretrained(model, resolve_device(device))

    def translating(by: str, source: str, target: str):
        return find_translator(by, source, target, output / "translations", endpoint, device)

    missing = {}
    with Run(output, items, progress) as run:
        if answers is not None:
            answered = run.given(answers)
        else:
            given = data / QUESTIONS_ZH
            by = str(given) if given.exists() else translator or judge_model
            asked = run.questions(cache(partial(translating, by, "en", "zh")), by)
            missing["questions"] = asked.failures
            if until == "questions":
                return None, {}, {}, missing
            answered = run.answers(asked.texts, loaded, model, images, **answering)
        missing["answers"] = answered.failures
        if until in ("questions", "answers"):
            return None, {}, {}, missing
        by = translator or judge_model
        english = run.english(answered.texts, cache(partial(translating, by, "zh", "en")), by)
        missing["english"] = english.failures
        if until == "english":
            return None, {}, {}, missing
        found, missing["reviews"] = run.reviews(english.texts, rules, endpoint, Judge(judge_model, **judge))
        cases = {name: run.items[name].case(text) for name, text in english.texts.items()}
        return found, cases, {item.id: images / item.image for item in items}, missing


def _show(name, reviews, other, settings: dict, cases, pictures, output: Path | None, as_json: bool) -> None:
    """Score, print, and write the report."""
    from xllm.evaluation import report
    from xllm.evaluation.judge import score
    from xllm.evaluation.relative import difference, summarize
    from xllm.evaluation.samples import judged_samples

    judged = score(reviews, settings["from_text"], {name: case.said for name, case in cases.items()})
    figures = summarize(judged, settings["paper_scoring"])
    gaps = difference(score(other, settings["from_text"]), judged) if other else {}
    unscored = [row.question_id for row in judged if row.scores is None]
    summary = {"reviews": name, **settings}
    summary |= {"relative": {name: asdict(figure) for name, figure in figures.items()}, "unscored": unscored}
    if other:
        summary |= {"minus baseline": {name: asdict(gap) for name, gap in gaps.items()}}
    rows = _rows(name, figures, gaps)
    counted = "counted as -1" if settings["paper_scoring"] else "left out"
    said = f"unscored, {counted}: {len(unscored)} of {len(judged)} reviews, questions {', '.join(unscored)}"
    if as_json:
        result(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    else:
        show_rows(rows)
        if unscored:
            note(said)
    if output:
        samples = list(judged_samples(reviews, judged, cases, pictures))
        tables, notes = {"As the paper's Table 1": rows}, [said] if unscored else []
        report.write(output, report.Report("LLaVA-test", tables, summary, samples, settings, notes, command_line()))


def _rows(name: str, figures: dict, gaps: dict) -> list[tuple[str, ...]]:
    """The paper's Table 1 with ours above."""
    rows = [("", *(COLUMNS.get(name, name) for name in figures))]
    rows.append((Path(name).name, *(_cell(figure.percent, "{:.1f}") for figure in figures.values())))
    rows.append(("95% interval", *(_cell(figure.low, "{:.1f}-{:.1f}", figure.high) for figure in figures.values())))
    rows.append(("scored", *(f"{f.scored} of {f.scored + f.unscored}" for f in figures.values())))
    if gaps:
        gap = (gaps[name] for name in figures)
        rows.append(("minus baseline", *(_cell(g.points, "{:+.1f} ({:+.1f}..{:+.1f})", g.low, g.high) for g in gap)))
    if list(figures) == list(COLUMNS):
        rows += [(name, *map(str, printed)) for name, printed in PAPER.items()]
    return rows


def _cell(value: float | None, form: str, *more: float | None) -> str:
    return "-" if value is None else form.format(value, *more)
