#!/usr/bin/env python3
"""Images and videos told in words, for the small LLM (stage 0), so that it repeats what stands in an image's place.

    python recipes/base/told.py OUT

writes OUT/told-train.jsonl and told-dev.jsonl: questions about the names of OUT/{photos,emoji,standins}-train.jsonl,
about the words of OUT/real_words-train.jsonl and about invented names. Run pictures.py, standins.py, speech.py first.
"""

import argparse
import json
import random
from pathlib import Path

from xllm.corpora.tiny_instructions import invented, told_rows
from xllm.files import write_jsonl_atomic

INVENTED = 3000
DEV = 100  # one row of so many


def labels(manifest: Path) -> list[str]:
    """The different names of a manifest's images, as they first come; captions are none."""
    with manifest.open(encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return list(dict.fromkeys(row["told"]["image"] for row in rows if row.get("told")))


def words(manifest: Path) -> list[str]:
    """The different words of recordings, of two to four characters."""
    with manifest.open(encoding="utf-8") as lines:
        texts = dict.fromkeys(json.loads(line)["response"] for line in lines)
    return [text for text in texts if 2 <= len(text) <= 4]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    kinds = [out / f"{name}-train.jsonl" for name in ("photos", "emoji", "standins")]
    names = list(dict.fromkeys(name for manifest in kinds for name in labels(manifest)))
    units = (out / "tokenizer" / "units.txt").read_text(encoding="utf-8").split()
    characters = [unit for unit in units if "\u3400" <= unit <= "\u9fff"]
    others = [word for word in words(out / "real_words-train.jsonl") if word not in names]
    rows = list(told_rows([(name, None) for name in names], [*others, *invented(characters, INVENTED)]))
    random.Random(0).shuffle(rows)
    rows = [{"id": f"told-{number}", **row} for number, row in enumerate(rows)]
    for split, part in (("dev", rows[::DEV]), ("train", [row for i, row in enumerate(rows) if i % DEV])):
        write_jsonl_atomic(out / f"told-{split}.jsonl", part)
        print(f"told-{split}: {len(part)} rows, {len(names)} names, {len(others)} words")


if __name__ == "__main__":
    main()
