#!/usr/bin/env python3
"""How the units are read, and the small LLM's tokenizer, beside OUT/tokenizer/units.txt.

    python recipes/base/tokenizer.py OUT        # OUT/*-train.jsonl say how characters are read in sentences

readings.txt has a line for each unit, of one or two tonal syllables: those that a character has in a tenth of the
sentences, or the dictionary's where no sentence has it. tokenizer.json has one token a character, sign or tag.
"""

import argparse
import collections
import json
import string
from pathlib import Path

from pypinyin import Style, pinyin
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from xllm.modalities import MODALITIES
from xllm.text import normalize

SHARE, MOST = 0.1, 2


def readings(out: Path, units: list[str]) -> list[str]:
    """Of each unit its tonal syllables, or nothing."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for manifest in sorted(out.glob("*-train.jsonl")):
        with manifest.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                text, syllables = normalize(row["response"]), (row.get("reading") or "").split()
                if len(text) == len(syllables):
                    for character, syllable in zip(text, syllables, strict=True):
                        counts[character][syllable] += 1
    found = []
    for unit in units:
        seen = counts[unit]
        own = [s for s, n in seen.most_common(MOST) if n >= SHARE * seen.total()]
        if not own and "\u3400" <= unit <= "\u9fff":
            own = pinyin(unit, style=Style.TONE3, neutral_tone_with_five=True)[0]
        found.append(" ".join(s for s in own if s[-1].isdigit()))
    return found


def write_tokenizer(folder: Path, units: list[str]) -> None:
    """The LLM's: one token a character, sign or tag, so that it is as long as what the recogniser writes."""
    tags = [tag for row in MODALITIES.values() for tag in row.tags] + ["Question:", "Answer:"]
    signs = ["\n", " ", *string.digits, *string.ascii_letters, *string.punctuation, *"，。？！、；：“”‘’（）《》…—·～"]
    vocabulary = dict.fromkeys(["<pad>", "<unk>", "<s>", "</s>", *tags, *signs, *units])
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"</?[A-Z][a-z]+>|Question:|Answer:|[\s\S]"), behavior="isolated"
    )
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    folder = out / "tokenizer"
    units = (folder / "units.txt").read_text(encoding="utf-8").split()
    lines = readings(out, units)
    (folder / "readings.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_tokenizer(folder, units)
    print(f"{len(lines)} units, {sum(not line for line in lines)} without a reading")


if __name__ == "__main__":
    main()
