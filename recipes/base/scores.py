#!/usr/bin/env python3
"""What `xllm eval asr` does not score: sounds without regard to characters, and punctuation.

    xllm asr data/base/real_words-test.jsonl --format jsonl > words.jsonl
    python recipes/base/scores.py data/base/real_words-test.jsonl words.jsonl

prints, each with its 95% interval: toneless and tonal syllables wrong, of the rows whose references have readings; the
F1 of punctuation marks, where a mark is right that stands behind the same character, of the rows that have any; and the
share of rows without speech (an empty reference) that came out as text.
"""

import argparse
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import jiwer
import numpy as np

from xllm.evaluation.bootstrap import interval
from xllm.manifest import iterate_manifest
from xllm.text import normalize

MARKS = "，。？！、：；"  # as NFKC writes them, `plain` says


def syllables(text: str, tones: bool) -> str:
    """Pinyin of a text in context, a syllable a word; other characters as they are."""
    from pypinyin import Style, lazy_pinyin

    style = Style.TONE3 if tones else Style.NORMAL
    return " ".join(lazy_pinyin(normalize(text), style=style, neutral_tone_with_five=tones))


def syllable_errors(reference: str, hypothesis: str, tones: bool) -> tuple[int, int]:
    """Errors, and syllables of the reference."""
    said = syllables(reference, tones)
    out = jiwer.process_words(said, syllables(hypothesis, tones))
    return out.substitutions + out.deletions + out.insertions, len(said.split())


def plain(text: str) -> list[tuple[str, str]]:
    """The characters of a text, each with the first mark behind it, or none."""
    marks = str.maketrans(dict(zip(unicodedata.normalize("NFKC", MARKS), MARKS, strict=True)))
    out: list[tuple[str, str]] = []
    for character in unicodedata.normalize("NFKC", text).lower().translate(marks):
        if normalize(character):
            out.append((character, ""))
        elif character in MARKS and out and not out[-1][1]:
            out[-1] = (out[-1][0], character)
    return out


def mark_counts(reference: str, hypothesis: str) -> tuple[int, int, int]:
    """Marks that are right, marks written, and marks of the reference."""
    said, written = plain(reference), plain(hypothesis)
    aligned = jiwer.process_characters("".join(c for c, _ in said), "".join(c for c, _ in written)).alignments[0]
    right = 0
    for chunk in aligned:
        if chunk.type in ("equal", "substitute"):
            pairs = zip(
                said[chunk.ref_start_idx : chunk.ref_end_idx],
                written[chunk.hyp_start_idx : chunk.hyp_end_idx],
                strict=True,
            )
            right += sum(bool(a) and a == b for (_, a), (_, b) in pairs)
    return right, sum(bool(mark) for _, mark in written), sum(bool(mark) for _, mark in said)


def report(name: str, counts: Sequence[tuple[int, ...]], figure: Callable[[np.ndarray], float]) -> None:
    """Print a figure of the summed counts [N, K], if there are any."""
    if counts:
        rows = np.array(counts)
        low, high = interval(lambda draw: figure(rows[draw].sum(0)), len(rows), 1)
        print(f"{name}: {figure(rows.sum(0)):.1f}% ({low}-{high}) of {len(rows)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("transcripts", type=Path, help="what `xllm asr --format jsonl` wrote of it")
    given = parser.parse_args()
    with given.transcripts.open(encoding="utf-8") as lines:
        written = {row["id"]: row["text"] for row in map(json.loads, lines)}
    rows = [row for row in iterate_manifest(given.manifest) if row["id"] in written]
    pairs = [(row["response"], written[row["id"]]) for row in rows]
    read = [(row["response"], written[row["id"]]) for row in rows if row["reading"]]
    for tones, name in ((False, "toneless syllables wrong"), (True, "tonal syllables wrong")):
        counts = [syllable_errors(*pair, tones) for pair in read]
        report(name, counts, lambda sums: 100 * sums[0] / max(1, sums[1]))
    marked = [pair for pair in pairs if any(mark for _, mark in plain(pair[0]))]
    report("F1 of marks", [mark_counts(*p) for p in marked], lambda sums: 200 * sums[0] / max(1, sums[1] + sums[2]))
    silent = [(bool(normalize(text)), 1) for said, text in pairs if not said]
    report("text where nobody speaks", silent, lambda sums: 100 * sums[0] / sums[1])


if __name__ == "__main__":
    main()
