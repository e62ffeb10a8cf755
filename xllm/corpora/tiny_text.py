"""Open Chinese text from package registries: what the tiny LLM is trained on, and how the recogniser learns to spell.

Read from wheels, without installing them: everyday dialogues (chatterbot-corpus, BSD), idioms, sayings and words with
their frequencies (jionlp, Apache 2.0), beside the training sentences of the tiny speech corpus. By far the most are
stretches drawn from a trigram model (libime, LGPL 2.1 or later). Held-out sentences never enter.
"""

import json
import random
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import yaml

from xllm.corpora.ngram import Trigrams, stretches
from xllm.errors import XLLMError
from xllm.files import write_atomic, write_jsonl_atomic
from xllm.text import normalize, reading

WHEELS = ("chatterbot_corpus", "jionlp")
LENGTHS = range(2, 31)  # characters of a row
IDIOM_FREQUENCY = 20  # rarer idioms are mostly variants that nobody writes
WORDS = 40_000  # most frequent words of one to four ideographs
DRAWN_WORDS = 60_000  # words drawn by frequency, beside two of each
STRETCHES = 150_000  # drawn from the trigram model
STRETCH_LENGTHS = range(4, 19)  # characters of one; a spoken sentence has 3 to 20
DEV_ROWS = 300
UNITS = 5_000
UNIT_COUNT = 5  # a character must occur this often in the text to become a unit
_WORD = re.compile(r"[\u4e00-\u9fff]{1,4}")


def wheel(folder: Path, name: str) -> zipfile.ZipFile:
    """Open the wheel of a package in `folder`; raises XLLMError saying how to download it."""
    found = sorted(folder.glob(f"{name}-*.whl"))
    if not found:
        package = name.replace("_", "-")
        raise XLLMError(f"{folder}: no wheel of {package}; run: pip download --no-deps -d {folder} {package}")
    return zipfile.ZipFile(found[-1])


def conversations(folder: Path) -> Iterator[list[str]]:
    """The simplified Chinese part of chatterbot-corpus: lines by turns."""
    with wheel(folder, "chatterbot_corpus") as archive:
        names = sorted(n for n in archive.namelist() if re.search(r"/data/chinese/\w+\.yml$", n))
        for name in names:
            for conversation in yaml.safe_load(archive.read(name))["conversations"]:
                yield list(map(str, conversation))


def dialogues(folder: Path) -> Iterator[str]:
    """Lines of all conversations."""
    return (line for lines in conversations(folder) for line in lines)


def _dictionary(folder: Path, name: str, suffix: str) -> list[str]:
    """Lines of one of jionlp's zipped dictionaries."""
    with wheel(folder, "jionlp") as archive, archive.open(f"jionlp/dictionary/{name}.zip") as inner:
        return zipfile.ZipFile(inner).read(f"{name}.{suffix}").decode("utf-8").splitlines()


def idioms(folder: Path) -> Iterator[str]:
    """Idioms in use."""
    for line in _dictionary(folder, "chinese_idiom", "txt"):
        idiom, _, count = line.partition("\t")
        if count.isdigit() and int(count) >= IDIOM_FREQUENCY:
            yield idiom


def sayings(folder: Path) -> Iterator[str]:
    """Two-part sayings (xiehouyu), both parts."""
    for line in _dictionary(folder, "xiehouyu", "txt"):
        yield line.replace("\t", "，")


def frequent_words(folder: Path) -> list[str]:
    """jionlp's words of one to four ideographs, the most frequent first."""
    return [word for word, _ in _counted_words(folder)]


def _counted_words(folder: Path) -> list[tuple[str, int]]:
    counted = [json.loads(line) for line in _dictionary(folder, "word_distribution", "json")]
    return sorted(((w, n) for w, n in counted if _WORD.fullmatch(w)), key=lambda pair: -pair[1])[:WORDS]


def words(folder: Path) -> Iterator[str]:
    """Rows of unrelated words: each of the frequent ones twice, more drawn by the root of their frequency.

    A word fixes the characters of its homophones; sentences alone are too few to show them.
    """
    known = _counted_words(folder)
    draw = np.random.default_rng(0)
    chances = np.sqrt([count for _, count in known])
    stream = list(range(len(known))) * 2 + list(draw.choice(len(known), DRAWN_WORDS, p=chances / chances.sum()))
    draw.shuffle(stream)
    start = 0
    while start < len(stream):
        size = int(draw.integers(4, 9))
        yield "".join(known[i][0] for i in stream[start : start + size])
        start += size


class _Rows:
    """Manifest rows of plain text that is long enough, can be read aloud, and holds no held-out sentence."""

    def __init__(self, held_out: Iterable[str]):
        self.forbidden = {normalize(sentence) for sentence in held_out}
        self.counts: Counter[str] = Counter()

    def of(self, source: str, texts: Iterable[str]) -> Iterator[dict]:
        """Rows of one source."""
        for number, text in enumerate(texts):
            plain = normalize(text)
            if len(plain) not in LENGTHS:
                continue
            if plain in self.forbidden or any(len(f) >= 4 and f in plain for f in self.forbidden):
                self.counts["held out"] += 1
            elif spelled := reading(text):
                self.counts[source] += 1
                yield {"id": f"{source}-{number}", "response": text, "reading": spelled}


def prepare(
    wheels: Path, target: Path, sentences: Iterable[str], held_out: Iterable[str], arpa: Path | None = None
) -> dict[str, int]:
    """Write `text.jsonl`, `words.jsonl`, `text-dev.jsonl` and `tokenizer/` into `target`; returns rows by source.

    `sentences` are the speech corpus' training sentences. Rows that contain a held-out sentence are left out, and
    so are rows with a character that is no ideograph. With `arpa`, a trigram model, also `stretches.jsonl`.
    """
    sentences = list(sentences)
    spoken = Counter("".join(normalize(sentence) for sentence in sentences))
    rows = _Rows(held_out)
    text = [
        *rows.of("hsk", dict.fromkeys(sentences)),
        *rows.of("chat", dialogues(wheels)),
        *rows.of("idiom", idioms(wheels)),
        *rows.of("saying", sayings(wheels)),
    ]
    loose = list(rows.of("words", words(wheels)))
    everything = [*text, *loose]
    random.Random(0).shuffle(everything)
    loose = [row for row in everything if row["id"].startswith("words-")]
    text = [row for row in everything if not row["id"].startswith("words-")]
    write_jsonl_atomic(target / "words.jsonl", loose)
    write_jsonl_atomic(target / "text.jsonl", text[DEV_ROWS:])
    write_jsonl_atomic(target / "text-dev.jsonl", text[:DEV_ROWS])
    written = Counter("".join(normalize(row["response"]) for row in everything))
    units = [c for c, _ in spoken.most_common()] + [c for c, n in written.most_common() if n >= UNIT_COUNT]
    units = list(dict.fromkeys(units))[:UNITS]
    syllables = {syllable for row in everything for syllable in row["reading"].split()}
    write_tokenizer(target / "tokenizer", units, sorted(syllables))
    if arpa is not None:
        drawn = stretches(Trigrams(arpa, set(units).issuperset), set(spoken), STRETCH_LENGTHS)
        known = (row for row in rows.of("drawn", drawn) if syllables.issuperset(row["reading"].split()))
        write_jsonl_atomic(target / "stretches.jsonl", islice(known, STRETCHES))
    return dict(rows.counts)


def write_tokenizer(folder: Path, units: list[str], syllables: list[str]) -> None:
    """Write `units.txt`, `syllables.txt` and the tiny LLM's tokenizer: one token a character, syllable or tag."""
    import string

    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from xllm.modalities import MODALITIES

    write_atomic(folder / "units.txt", "".join(f"{unit}\n" for unit in units))
    write_atomic(folder / "syllables.txt", "".join(f"{syllable}\n" for syllable in syllables))
    tags = [tag for row in MODALITIES.values() for tag in row.tags] + ["Question:", "Answer:"]
    signs = ["\n", " ", *string.digits, *string.ascii_letters, *string.punctuation, *"，。？！、；：“”‘’（）《》…—·～"]
    vocabulary = dict.fromkeys(["<pad>", "<unk>", "<s>", "</s>", *tags, *signs, *units, *(f"[{s}]" for s in syllables)])
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\[[a-z]+[1-5]\]|</?[A-Z][a-z]+>|Question:|Answer:|[\s\S]"), behavior="isolated"
    )
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)
