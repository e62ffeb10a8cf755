#!/usr/bin/env python3
"""How the units are read: OUT/tokenizer/readings.txt beside units.txt, a line for each, of one or two tonal syllables.

    python recipes/base/readings.py OUT        # OUT/*-train.jsonl say how characters are read in sentences
A reading counts where a character has it in a tenth of the sentences; one that no sentence has is the dictionary's.
"""

import argparse
import collections
import json
from pathlib import Path

from pypinyin import Style, pinyin

from xllm.text import normalize

SHARE, MOST = 0.1, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for manifest in sorted(out.glob("*-train.jsonl")):
        for line in manifest.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text, syllables = normalize(row["response"]), (row.get("reading") or "").split()
            if len(text) == len(syllables):
                for character, syllable in zip(text, syllables, strict=True):
                    counts[character][syllable] += 1
    units = (out / "tokenizer" / "units.txt").read_text(encoding="utf-8").split()
    lines = []
    for unit in units:
        seen = counts[unit]
        readings = [s for s, n in seen.most_common(MOST) if n >= SHARE * seen.total()]
        if not readings and "\u3400" <= unit <= "\u9fff":
            readings = pinyin(unit, style=Style.TONE3, neutral_tone_with_five=True)[0]
        lines.append(" ".join(s for s in readings if s[-1].isdigit()))
    (out / "tokenizer" / "readings.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} units, {sum(not line for line in lines)} without a reading")


if __name__ == "__main__":
    main()
