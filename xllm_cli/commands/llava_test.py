"""`xllm eval llava-test`: answers about pictures, rated by a judge beside GPT-4's (paper 4.1, docs/evaluation.md)."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from xllm_cli.console import note, result, show_rows, show_warnings

COLUMNS = {"conv": "Conversation", "detail": "Detail description", "complex": "Complex reasoning", "all": "All"}
# The paper's Table 1; LLaVA's row was judged by GPT-4, the others by ChatGPT.
PAPER = {
    "LLaVA (paper)": (83.1, 75.3, 96.5, 85.1),
    "X-LLM (paper)": (85.4, 83.5, 84.6, 84.5),
    "X-LLM w/ 4M (paper)": (74.8, 83.7, 86.5, 81.9),
    "X-LLM w/ 4M no init (paper)": (64.7, 71.9, 85.0, 73.8),
}


def llava_test(
    reviews: Annotated[Path, typer.Option(help="Reviews to score: JSON list or JSON Lines, as LLaVA's scripts write.")],
    from_text: Annotated[
        bool, typer.Option("--from-text", help="Also read scores that a review states in words.")
    ] = False,
    paper_scoring: Annotated[
        bool, typer.Option("--paper-scoring", help="Average reviews without scores as -1, as the paper did.")
    ] = False,
    baseline: Annotated[Path | None, typer.Option(help="Reviews of another run, to compare with by question.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No warnings.")] = False,
) -> None:
    """Scores relative to GPT-4 from a judge's reviews, with 95% intervals, beside the paper's Table 1."""
    from xllm.evaluation.judge import read_reviews, score
    from xllm.evaluation.relative import difference, summarize

    show_warnings(quiet)
    if from_text and paper_scoring:
        raise typer.BadParameter("--from-text and --paper-scoring count the same reviews in two ways; choose one")
    judged = score(read_reviews(reviews), from_text)
    figures = summarize(judged, paper_scoring)
    gaps = difference(score(read_reviews(baseline), from_text), judged) if baseline else {}
    unscored = [row.question_id for row in judged if row.scores is None]
    if as_json:
        summary = {"reviews": str(reviews), "from_text": from_text, "paper_scoring": paper_scoring}
        summary |= {"relative": {name: asdict(figure) for name, figure in figures.items()}, "unscored": unscored}
        if baseline:
            summary |= {"baseline": str(baseline), "minus baseline": {name: asdict(gap) for name, gap in gaps.items()}}
        result(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
        return
    rows = [("", *(COLUMNS.get(name, name) for name in figures))]
    rows.append((str(reviews), *(_cell(figure.percent, "{:.1f}") for figure in figures.values())))
    rows.append(("95% interval", *(_cell(figure.low, "{:.1f}-{:.1f}", figure.high) for figure in figures.values())))
    rows.append(("scored", *(f"{f.scored} of {f.scored + f.unscored}" for f in figures.values())))
    if gaps:
        gap = (gaps[name] for name in figures)
        rows.append(("minus baseline", *(_cell(g.points, "{:+.1f} ({:+.1f}..{:+.1f})", g.low, g.high) for g in gap)))
    if list(figures) == list(COLUMNS):
        rows += [(name, *map(str, printed)) for name, printed in PAPER.items()]
    show_rows(rows)
    if unscored:
        counted = "counted as -1" if paper_scoring else "left out"
        note(f"unscored, {counted}: {len(unscored)} of {len(judged)} reviews, questions {', '.join(unscored)}")


def _cell(value: float | None, form: str, *more: float | None) -> str:
    return "-" if value is None else form.format(value, *more)
