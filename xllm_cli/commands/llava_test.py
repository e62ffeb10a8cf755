"""`xllm eval llava-test`: answers about pictures, rated by a judge beside GPT-4's (paper 4.1, docs/evaluation.md)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from xllm import PACKAGED
from xllm_cli.console import (
    FAILED,
    USAGE,
    check_writable,
    command_line,
    note,
    progress_bar,
    result,
    show_rows,
    show_warnings,
)

COLUMNS = {"conv": "Conversation", "detail": "Detail description", "complex": "Complex reasoning", "all": "All"}
# The paper's Table 1; LLaVA's row was judged by GPT-4, the others by ChatGPT.
PAPER = {
    "LLaVA (paper)": (83.1, 75.3, 96.5, 85.1),
    "X-LLM (paper)": (85.4, 83.5, 84.6, 84.5),
    "X-LLM w/ 4M (paper)": (74.8, 83.7, 86.5, 81.9),
    "X-LLM w/ 4M no init (paper)": (64.7, 71.9, 85.0, 73.8),
}
ASKED, ANSWERS, JUDGE, SCORES = "What is asked", "Answers", "Judge", "Scores"
OUTPUT, JUDGE_MODEL = Path("llava_test_run"), "gpt-4o-mini"
MAX_UNSCORED = 0.1


@dataclass(frozen=True)
class _Plan:
    """A run up to the step `until`: whose answers, who translates and judges, and how they are asked."""

    data: Path
    images: Path | None
    output: Path
    until: str | None
    answers: Path | None
    model: str
    translator: str | None
    device: str
    judge_model: str | None
    judge: dict[str, Any]
    answering: dict[str, Any]
    asking: dict[str, Any]


@dataclass
class _Found:
    """What there is: reviews, when it came to them, what they are about by question, what is missing by step."""

    reviews: list | None = None
    cases: dict = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, dict] = field(default_factory=dict)
    made_with: dict = field(default_factory=dict)


def llava_test(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with LLaVA-test's files.", show_default="this one, or llava_test", rich_help_panel=ASKED
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of COCO's images, under LLaVA's names or COCO's.",
            show_default="images or val2014, in --data or here",
            rich_help_panel=ASKED,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the run, which goes on with what is there, and of the report.",
            show_default=str(OUTPUT),
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
            help="Who answers: a model of the package or a checkpoint folder.",
            show_default=PACKAGED,
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Answers that exist, in Chinese or English: question_id, text.", rich_help_panel=ANSWERS),
    ] = None,
    translator: Annotated[
        str | None,
        typer.Option(
            help="Who translates: a file of translations, a folder of mBART-50, or a chat model.",
            show_default="--judge-model; question90_zh.json for the questions where --data has it",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.", rich_help_panel=ANSWERS)] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Answers written at once.", rich_help_panel=ANSWERS)] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=ANSWERS)] = "auto",
    judge_model: Annotated[
        str | None,
        typer.Option(
            help="A chat model at OPENAI_BASE_URL, with OPENAI_API_KEY.",
            show_default=JUDGE_MODEL,
            rich_help_panel=JUDGE,
        ),
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
    max_unscored: Annotated[
        float,
        typer.Option(min=0, max=1, help="Exit 1 when a larger share of reviews is unscored.", rich_help_panel=SCORES),
    ] = MAX_UNSCORED,
    baseline: Annotated[
        Path | None, typer.Option(help="Another run, or its reviews, to compare with.", rich_help_panel=SCORES)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.", rich_help_panel=SCORES)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no warnings.")] = False,
) -> None:
    """Answers about images, judged beside GPT-4's: relative scores with 95% intervals, beside the paper's Table 1.

    xllm eval llava-test (in a folder with the files; elsewhere it says which these are)

    xllm eval llava-test --data llava_test --images val2014 --judge-model gpt-4o-mini -o run

    xllm eval llava-test --reviews review.json
    """
    from xllm.evaluation.judge import read_reviews

    show_warnings(quiet)
    if from_text and paper_scoring:
        raise typer.BadParameter("--from-text and --paper-scoring count the same reviews in two ways; choose one")
    other = read_reviews(baseline / "reviews.jsonl" if baseline.is_dir() else baseline) if baseline else []
    if reviews is not None:
        name, found = str(reviews), _Found(read_reviews(reviews))
        if output:
            check_writable(output)
    else:
        if model and answers:
            raise typer.BadParameter("--model answers anew, --answers has been answered; choose one")
        if max_cost is not None and prices is None:
            raise typer.BadParameter("--max-cost needs --prices IN OUT, those of a million tokens")
        data, output = data or _data_here(), output or OUTPUT
        if judge_model is None and until in (None, "reviews"):
            judge_model = JUDGE_MODEL
            if not quiet:
                note(f"{judge_model} judges; --judge-model names another")
        plan = _Plan(
            data,
            images,
            output,
            until,
            answers,
            model or PACKAGED,
            translator,
            device,
            judge_model,
            judge={"temperature": temperature, "seed": seed, "samples": samples, "both_orders": both_orders},
            answering={"max_tokens": max_tokens, "batch_size": batch_size},
            asking={"concurrency": concurrency, "max_calls": max_calls, "max_cost": max_cost, "prices": prices},
        )
        name = str(output)
        with progress_bar(quiet) as bar:
            found = _run(plan, bar)
    too_many = False
    if found.reviews is not None:
        settings = {"from_text": from_text, "paper_scoring": paper_scoring, "baseline": baseline and str(baseline)}
        settings |= {"run": found.made_with} if found.made_with else {}
        share = _show(name, found, other, settings, output, as_json)
        if too_many := share > max_unscored:
            note(f"error: {share:.0%} of the reviews are unscored, more than --max-unscored {max_unscored:g}")
    for step, failures in found.missing.items():
        for reason in dict.fromkeys(map(str, failures.values())):
            names = [key for key, error in failures.items() if str(error) == reason]
            note(f"error: {step}: {len(names)} missing: {reason}: {', '.join(names)}")
    if any(found.missing.values()):
        note(f"what there is stands in {output}; the same command goes on with the rest")
    if too_many or any(found.missing.values()):
        raise typer.Exit(FAILED)


def _data_here() -> Path:
    """Where the files are when nobody says it; without any, what they are, and exit code 2."""
    from xllm.evaluation.llava_files import DATA_FOLDER, FILES, IMAGES, OPTIONAL, SOURCE, find_data

    if found := find_data(Path()):
        return found
    note(f"error: no LLaVA-test here, and none in {DATA_FOLDER}; go to its folder, or give --data. It needs the files")
    for name, holds in (FILES | OPTIONAL).items():
        note(f"  {name:33} {holds}")
    note(f"from {SOURCE};")
    note(f"and a folder images or val2014, or --images: COCO val2014, from {IMAGES}.")
    note("The judge needs OPENAI_API_KEY, and OPENAI_BASE_URL for another server than OpenAI's.")
    note("Reviews that exist are scored with --reviews FILE. More is in docs/evaluation.md.")
    raise typer.Exit(USAGE)


def _run(plan: _Plan, bar) -> _Found:
    """The steps up to the plan's last."""
    from xllm.endpoint import Endpoint
    from xllm.evaluation.llava_files import QUESTIONS_ZH, find_image, find_image_folder, read_data
    from xllm.evaluation.llava_test import Judge, Run
    from xllm.translation import translator as find_translator

    items, rules = read_data(plan.data)
    images = plan.images
    if images is None and plan.answers is None and plan.until != "questions":
        images = find_image_folder(plan.data, Path())
    tasks: dict[str, Any] = {}

    def progress(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = bar.add_task(step, total=total)
        bar.update(tasks[step], completed=done)

    @cache
    def endpoint() -> Endpoint:
        return Endpoint(plan.output / "replies", **plan.asking)

    @cache
    def loaded():
        from xllm.device import resolve_device
        from xllm.model import XLLM

        return XLLM.from_pretrained(plan.model, resolve_device(plan.device))

    def translating(by: str, source: str, target: str):
        return find_translator(by, source, target, plan.output / "translations", endpoint, plan.device)

    found = _Found()
    with Run(plan.output, items, progress) as run:
        if plan.answers is not None:
            answered = run.given(plan.answers)
        else:
            given = plan.data / QUESTIONS_ZH
            by = str(given) if given.exists() else plan.translator or plan.judge_model
            asked = run.questions(cache(partial(translating, by, "en", "zh")), by)
            found.missing["questions"] = asked.failures
            if plan.until == "questions":
                return found
            answered = run.answers(asked.texts, loaded, plan.model, images, **plan.answering)
        found.missing["answers"] = answered.failures
        if plan.until in ("questions", "answers"):
            return found
        by = plan.translator or plan.judge_model
        english = run.english(answered.texts, cache(partial(translating, by, "zh", "en")), by)
        found.missing["english"] = english.failures
        if plan.until == "english":
            return found
        judge = Judge(plan.judge_model, **plan.judge)
        found.reviews, found.missing["reviews"] = run.reviews(english.texts, rules, endpoint, judge)
        found.cases = {name: run.items[name].case(text) for name, text in english.texts.items()}
        paths = {item.id: images and find_image(images, item.image) for item in items}
        found.pictures = {name: path for name, path in paths.items() if path}
        found.made_with = run.made_with
        return found


def _show(name: str, found: _Found, other: list, settings: dict, output: Path | None, as_json: bool) -> float:
    """Score, print, and write the report; the share of reviews that is unscored."""
    from xllm.evaluation import report
    from xllm.evaluation.judge import score
    from xllm.evaluation.relative import difference, summarize
    from xllm.evaluation.samples import judged_samples

    judged = score(found.reviews, settings["from_text"], {name: case.said for name, case in found.cases.items()})
    figures = summarize(judged, settings["paper_scoring"])
    gaps = difference(score(other, settings["from_text"]), judged) if other else {}
    unscored = [row for row in judged if row.scores is None]
    summary = {"reviews": name, **settings}
    summary |= {"relative": {name: asdict(figure) for name, figure in figures.items()}}
    summary |= {"unscored": [row.question_id for row in unscored], "why unscored": _by_reason(unscored)}
    if other:
        summary |= {"minus baseline": {name: asdict(gap) for name, gap in gaps.items()}}
    rows = _rows(name, figures, gaps)
    counted = "counted as -1" if settings["paper_scoring"] else "left out"
    reasons = "; ".join(f"{why}: questions {', '.join(ids)}" for why, ids in _by_reason(unscored).items())
    said = f"unscored, {counted}: {len(unscored)} of {len(judged)} reviews: {reasons}"
    if as_json:
        result(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    else:
        show_rows(rows)
        if unscored:
            note(said)
    if output:
        samples = list(judged_samples(found.reviews, judged, found.cases, found.pictures))
        tables, notes = {"As the paper's Table 1": rows}, [said] if unscored else []
        report.write(output, report.Report("LLaVA-test", tables, summary, samples, settings, notes, command_line()))
    return len(unscored) / max(1, len(judged))


def _by_reason(unscored: Sequence) -> dict[str, list[str]]:
    """Questions by what kept them from scores."""
    reasons: dict[str, list[str]] = {}
    for row in unscored:
        reasons.setdefault(row.why, []).append(row.question_id)
    return reasons


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
