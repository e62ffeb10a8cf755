"""The text that the small LLM of `base` is trained on (stage 0), from zh_text.

    python recipes/base/text.py ../shared/data data/base

writes OUT/text-train.jsonl and text-dev.jsonl: every sentence, with its `reading` where it is all ideographs, of which
stage 0 makes dictation; OUT/text-first-train.jsonl, about half of them; OUT/dialogues-train.jsonl and
dialogues-dev.jsonl: questions and the answers to them. The dialogues of zh_text lie there as sentences, some left out:
what follows a question is taken for its answer where it is none itself, does not begin as the answer to something
else, and, in SmileChat, speaks to the one who asked about themselves. A hundredth is dev, by a hash of the sentence.
Sentences with characters outside OUT/tokenizer/units.txt are left out and counted. Run speech.py first. Ten minutes.
"""

import argparse
import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rows import DIALOGUES, text_files, text_lines

from xllm.files import write_jsonl_atomic
from xllm.text import normalize, reading

DEV = 100  # one sentence of so many
FIRST = {  # one sentence of so many is of the half that a short training reads; of other sources every one
    **{"smilechat": 8, "react_docs": 3, "vue_docs": 3, "rust_book": 3, "gnome_help": 3},
    **dict.fromkeys(("common_voice_wiki", "cmrc2018_wikipedia", "drcd_wikipedia"), 2),
}
HISTORY = 2  # earlier questions that a question comes with
_QUESTION = re.compile(r".*[？?]")
_UNMARKED = re.compile(r".*[^。！？?!]")  # chatterbot's questions often end without a mark
_GREETING = re.compile(r"[你您]好|嗨|哈喽|早上好|下午好|晚上好")
_REJOINDER = re.compile(
    r"好[的吧啊，]|谢|感谢|非常感谢|太[好感]|收到|嗯|哦|噢|那|行[，吧]|算了|知道了|明白|记下|就[去它]|而且|不过|但|并且|因此|另外|所以"
)


def is_dev(text: str) -> bool:
    """Whether a sentence is for measuring only."""
    return int(hashlib.sha256(normalize(text).encode()).hexdigest(), 16) % DEV == 0


def is_first(name: str) -> bool:
    """Whether a sentence is of the half that a short training reads: all that people say, less of the rest."""
    share = FIRST.get(name.rpartition("-")[0].removesuffix(".mixed"), 1)
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % share == 0


def answers(source: str, question: str, answer: str) -> bool:
    """Whether two lines, one after the other, are a question and what was said to it."""
    asked = _QUESTION.fullmatch(question) or (source == "chatterbot" and _UNMARKED.fullmatch(question))
    if not asked or _REJOINDER.match(answer) or _UNMARKED.fullmatch(answer) or _QUESTION.fullmatch(answer):
        return False
    if "推荐" in answer and "推荐" not in question:  # the answer held digits, and lies in the other file
        return False
    return source != "smilechat" or ("我" in question and "你" in answer)


def dialogues(source: str, lines: list[str]) -> Iterator[dict]:
    """Questions and answers, with the questions and answers right before them."""
    history, last = [], -1
    for number, (question, answer) in enumerate(zip(lines, lines[1:], strict=False)):
        if number == last or not answers(source, question, answer):
            continue
        if last != number - 1 or _GREETING.match(question):
            history = []
        turn = {"instruction": question, "response": answer}
        yield {"id": f"{source}-{number}-turn", **turn, "history": history[-HISTORY:]}
        history, last = [*history, turn], number + 1


def said(row: dict) -> list[str]:
    """All that is said in a dialogue."""
    return [turn[key] for turn in (*row["history"], row) for key in ("instruction", "response")]


def write(path: Path, rows: list[dict], counts: Counter) -> None:
    """Shuffle rows into a manifest."""
    random.Random(0).shuffle(rows)
    write_jsonl_atomic(path, rows)
    characters = sum(len(row["response"]) for row in rows)
    print(f"{path.stem}: {len(rows)} rows, {characters} characters of responses; {dict(counts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("out", type=Path, nargs="?", default=Path("data/base"))
    args = parser.parse_args()
    units = set((args.out / "tokenizer" / "units.txt").read_text(encoding="utf-8").split())
    names = [f"{kind}-{split}" for kind in ("text", "dialogues") for split in ("train", "dev")]
    parts: dict[str, list[dict]] = {name: [] for name in names}
    counts: dict[str, Counter] = {name: Counter() for name in parts}
    left_out: Counter = Counter()
    for path in text_files(args.data):
        source = path.name.removesuffix(".txt.xz")
        lines = list(text_lines(path))
        known = [units.issuperset(normalize(line)) for line in lines]
        left_out[source] += len(lines) - sum(known)
        texts = (
            {"id": f"{source}-{number}", "response": line, "reading": reading(line)}
            for number, line in enumerate(lines)
            if known[number]
        )
        turns = dialogues(source, lines) if source in (*DIALOGUES, "chatterbot") else ()
        spoken = (row for row in turns if units.issuperset(normalize("".join(said(row)))))
        for kind, rows in {"text": texts, "dialogues": spoken}.items():
            for row in rows:
                held_out = any(is_dev(row[key]) for key in ("instruction", "response") if key in row)
                name = f"{kind}-{'dev' if held_out else 'train'}"
                parts[name].append(row)
                counts[name][source] += 1
    counts["text-first-train"] = Counter()  # as above, by `FIRST`
    parts["text-first-train"] = [row for row in parts["text-train"] if is_first(row["id"])]
    for name, rows in parts.items():
        write(args.out / f"{name}.jsonl", rows, counts[name])
    print(f"left out for characters outside the units: {left_out.total()} sentences; {dict(+left_out)}")


if __name__ == "__main__":
    main()
