"""The speech of `base`: recordings and manifests of tiny_speech, voices, real_sentences and real_words, and the units.

    python recipes/base/speech.py ../shared/data data/base

writes OUT/audio/SET/*.opus, OUT/SET-SPLIT.jsonl (train, dev, test; `voices` has train only) and
OUT/tokenizer/units.txt: the characters of the training texts and the commonest of zh_text, Latin letters and digits.
Of real_words the words are taken; the text of its syllables is pinyin, which no recogniser should write. Sentences of
real_sentences have no punctuation: a full stop is put behind those of train, lest a real voice mean none. OUT/READY is
made when all is there. 30 seconds.
"""

import argparse
import re
from collections import Counter
from itertools import chain
from pathlib import Path
from string import ascii_lowercase, digits

from rows import read_rows, speech_row, text_files, text_lines, unpack

from xllm.files import write_atomic, write_jsonl_atomic
from xllm.text import normalize

SETS = ("tiny_speech", "voices", "real_sentences", "real_words")
SPLITS = ("train", "dev", "test")
UNITS = 5_000
SENTENCE = 5  # characters of the shortest text that is taken for one
_IDEOGRAPH = re.compile(r"[\u3007\u3400-\u9fff]")


def manifests(source: Path, out: Path) -> dict[str, list[dict]]:
    """Unpack one data set into `out` and write its manifests; returns their rows by split."""
    rows = [row for row in read_rows(source / "manifest.jsonl") if row.get("kind") != "syllable"]
    rows = [row for row in rows if row["split"] in SPLITS]
    folder = Path("audio") / source.name
    for tar in sorted({row.get("tar") or f"{row['split']}.tar" for row in rows}):
        unpack(source / tar, out / folder)
    samples: dict[str, list[dict]] = {}
    for row in rows:
        path = folder / row.get("file", f"{row['id']}.opus")
        if not (out / path).is_file():
            raise SystemExit(f"{source}: {path.name} is in no tar; copy the data set again")
        text = row["text"]
        if source.name == "real_sentences" and row["split"] == "train" and len(text) >= SENTENCE:
            text += "。"
        samples.setdefault(row["split"], []).append(speech_row(row["id"], str(path), row["duration"], text))
    for split, part in samples.items():
        write_jsonl_atomic(out / f"{source.name}-{split}.jsonl", part)
        hours = sum(row["duration"] for row in part) / 3600
        print(f"{source.name}-{split}: {len(part)} recordings, {hours:.2f} hours")
    return samples


def choose_units(trained: Counter[str], written: Counter[str]) -> list[str]:
    """Digits, letters and ideographs: first those of the training texts, then the commonest of other text."""
    ideographs = [c for c, _ in chain(trained.most_common(), written.most_common()) if _IDEOGRAPH.fullmatch(c)]
    return list(dict.fromkeys([*digits, *ascii_lowercase, *ideographs]))[:UNITS]


def characters(texts) -> Counter[str]:
    """How often each character occurs in normalised texts."""
    return Counter(chain.from_iterable(map(normalize, texts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("out", type=Path, nargs="?", default=Path("data/base"))
    args = parser.parse_args()
    (args.out / "READY").unlink(missing_ok=True)
    trained = [row for name in SETS for row in manifests(args.data / name, args.out)["train"]]
    spoken = characters(row["response"] for row in trained)
    written = characters(chain.from_iterable(map(text_lines, text_files(args.data))))
    units = choose_units(spoken, written)
    known = set(units)
    write_atomic(args.out / "tokenizer" / "units.txt", "".join(f"{unit}\n" for unit in units))
    for name, counts in {"speech": spoken, "text": written}.items():
        lacking = Counter({c: n for c, n in counts.items() if c not in known})
        share = lacking.total() / counts.total()
        print(f"units lack {len(lacking)} characters of the {name}, {share:.3%} of all: {''.join(lacking)[:40]}")
    print(f"{len(units)} units")
    (args.out / "READY").touch()


if __name__ == "__main__":
    main()
