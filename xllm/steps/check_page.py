"""A manifest on one page: what was left out and why, how long its speech and texts are, and where they are from.

No script, nothing from elsewhere; ids and details are what strangers wrote, and stand there as text only.
"""

import html
import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from xllm.modalities import MODALITIES
from xllm.steps.rows import Dropped, media_of, read_rows
from xllm.steps.run import sidecar

EXAMPLES = 20  # of each reason
LONGEST = 300  # characters that are shown of what a stranger wrote
NAMES = 1000  # sources that are told apart
BARS = 30  # of a histogram, at most
FINE = {"seconds": 0.1, "characters": 1.0}  # what is counted before bars are as wide as they have to be
MOST = 2000  # fine steps; what is longer counts as this long
WIDE, HIGH, LEFT, RIGHT, BELOW = 480, 220, 68, 20, 44  # of a plot, and its margins for numbers

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{name}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d1d1f; --soft: #6b6b70; --line: #d9d9de; --bar: #3f6fb5; --paper: #fff }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8e8ea; --soft: #9a9aa2; --line: #3a3a40; --bar: #7fa6e0; --paper: #17171a }}
}}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 70rem; margin: 0 auto; padding: 1rem }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere }} h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem }}
.totals {{ display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; margin: 0; padding: 0; list-style: none }}
.totals b {{ display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 0 2rem }}
.totals span, svg text, summary span {{ color: var(--soft); fill: var(--soft) }}
svg {{ width: 100%; height: auto }} svg text {{ font-size: 15px }}
rect {{ fill: var(--bar) }} line {{ stroke: var(--line) }}
details {{ border-top: 1px solid var(--line); padding: .4rem 0 }} summary {{ cursor: pointer }}
details table {{ border-collapse: collapse; margin: .5rem 0; width: 100%; font-size: .9rem; table-layout: fixed }}
td {{ padding: .15rem .8rem .15rem 0; vertical-align: top; overflow-wrap: anywhere }} td:first-child {{ width: 35% }}
</style></head><body>
<h1>{name}</h1>
<ul class="totals">{totals}</ul>
<h2>Left out</h2>
{reasons}
<div class="plots">{plots}</div>
</body></html>
"""


def write_page(manifest: Path, page: Path) -> None:
    """Write the page of a finished manifest, from it and the two files beside it."""
    seconds, characters, sources, media = Counter(), Counter(), Counter(), Counter()
    hours = 0.0
    for row in read_rows(manifest):
        if isinstance(row, Dropped):
            continue
        long = row.get("duration") if row.get("speech") else None
        if long is not None and 0 <= long < math.inf:
            hours += long / 3600
            seconds[_step(long, "seconds")] += 1
        if row.get("response") is not None:
            characters[_step(len(row["response"]), "characters")] += 1
        source = str(row.get("source") or "unknown")[:LONGEST]
        sources[source if source in sources or len(sources) < NAMES else "others"] += 1
        media.update(kind for kind, _ in media_of(row))
    report = json.loads(sidecar(manifest, "report.json").read_text(encoding="utf-8"))
    left_out = sum(report["dropped"].values()) + sum(report["failed"].values())
    totals = [(f"{report[key]:,}", word) for key, word in (("inputs", "inputs"), ("kept", "kept"))]
    totals.append((f"{left_out:,}", "left out"))
    totals += [(f"{media[kind]:,}", f"{kind} files") for kind in MODALITIES if media[kind]]
    totals += [(f"{hours:,.1f}", "hours of speech")] if seconds else []
    plots = [_histogram("Rows by length of speech", "seconds", seconds)]
    plots += [_histogram("Rows by length of response", "characters", characters), _bars("Rows by source", sources)]
    text = _PAGE.format(
        name=html.escape(manifest.name),
        totals="".join(f"<li><b>{value}</b><span>{word}</span></li>" for value, word in totals),
        reasons=_reasons(report, sidecar(manifest, "dropped.jsonl")),
        plots="".join(plots),
    )
    temporary = page.with_name(f".{page.name}.tmp")  # always the same: what a kill leaves is written over
    temporary.write_text(text, encoding="utf-8", errors="replace")  # lone surrogates are no UTF-8
    os.replace(temporary, page)


def _step(value: float, unit: str) -> int:
    return int(min(MOST, value / FINE[unit]))


def _reasons(report: dict, dropped: Path) -> str:
    """Each reason with its count, and some that it was the reason for."""
    examples: dict[tuple[bool, str], list[str]] = {}
    with dropped.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            rows = examples.setdefault((row["failed"], row["reason"]), [])
            if len(rows) < EXAMPLES:
                rows.append(f"<tr><td>{_cut(row['id'])}</td><td>{_cut(row['detail'])}</td></tr>")
    parts = []
    for failed, kind in ((True, "failed"), (False, "dropped")):
        for reason, count in sorted(report[kind].items(), key=lambda item: -item[1]):
            rows = examples.get((failed, reason), [])
            more = f" ({len(rows)} of them below)" if len(rows) < count else ""
            parts.append(
                f"<details><summary>{count:,} {html.escape(reason)} <span>{kind}{more}</span></summary>"
                f"<table>{''.join(rows)}</table></details>"
            )
    return "".join(parts) or "<p>Nothing.</p>"


def _cut(text: str) -> str:
    return html.escape(text if len(text) <= LONGEST else text[:LONGEST] + "…")


def _nice(least: float, steps: tuple[int, ...] = (1, 2, 5, 10)) -> float:
    """The next round number from `least` on: one of the steps times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in steps if step * power >= least * (1 - 1e-9))


def _histogram(title: str, unit: str, counts: Counter[int]) -> str:
    """Bars of equal width over a value in `unit`; nothing where nothing was counted."""
    if not counts:
        return ""
    fine = FINE[unit]
    width = max(fine, _nice((max(counts) + 1) * fine / BARS))
    bars = Counter()
    for step, count in counts.items():
        bars[int((step + 0.5) * fine / width)] += count
    number = max(bars) + 1
    shown = [(f"{place * width:g} to {(place + 1) * width:g} {unit}", bars[place]) for place in range(number)]
    every = max(1, round(number / 6))
    marks = [(place / number, f"{place * width:g}") for place in range(0, number, every)]
    if max(counts) == MOST:  # the last bar is all that is longer
        shown[-1] = (f"{(number - 1) * width:g} {unit} or more", bars[number - 1])
        marks[-1] = (1 - 1 / number, f"{(number - 1) * width:g}+")
    return f"<section><h2>{title}</h2>{_plot(shown, marks, unit)}</section>"


def _plot(bars: list[tuple[str, int]], marks: Iterable[tuple[float, str]], unit: str) -> str:
    across, up, most = WIDE - LEFT - RIGHT, HIGH - BELOW - 10, max(count for _, count in bars)
    top = _nice(most, (1, 2, 3, 4, 6, 8, 10))
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = 10 + up * (1 - share)
        parts.append(f'<line x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(top * share)}</text>')
    each = across / len(bars)
    for place, (words, count) in enumerate(bars):
        high = up * count / top
        x, y = LEFT + place * each, 10 + up - high
        parts.append(
            f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(1.0, each - 1):.1f}" height="{high:.1f}">'
            f"<title>{words}: {count:,} rows</title></rect>"
        )
    parts += [
        f'<text x="{LEFT + share * across:.1f}" y="{HIGH - BELOW + 18}" text-anchor="middle">{mark}</text>'
        for share, mark in marks
    ]
    parts.append(f'<text x="{LEFT + across / 2}" y="{HIGH - 4}" text-anchor="middle">{unit}</text>')
    return f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="rows by {unit}">{"".join(parts)}</svg>'


def _short(count: float) -> str:
    return f"{count / 1e6:,g}M" if count >= 1e6 else f"{count:,g}"


def _bars(title: str, counts: Counter[str]) -> str:
    """A line of its own length for each of the most frequent names."""
    if not counts:
        return ""
    named = counts.most_common(BARS)
    most, row = named[0][1], 44
    parts = []
    for place, (name, count) in enumerate(named):
        y, long, short = place * row, WIDE * count / most, name if len(name) <= 24 else name[:23] + "…"
        parts.append(f'<text y="{y + 17}">{html.escape(short)}</text>')
        parts.append(f'<text x="{WIDE}" y="{y + 17}" text-anchor="end">{count:,}</text>')
        parts.append(f'<rect y="{y + 23}" width="{max(1.0, long):.1f}" height="12"/>')
    high = row * len(named)
    return f'<section><h2>{title}</h2><svg viewBox="0 0 {WIDE} {high}" role="img">{"".join(parts)}</svg></section>'
