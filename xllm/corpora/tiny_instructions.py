"""What people ask about pictures, films and speech, and what they are told in words: the instructions of `tiny`.

A small LLM from scratch does not know that a picture may be asked about. Stage 0 tells it pictures and films in words
(`told`), stage 2 and 3 show them. Names are those of the picture corpus; what a film shows is its object and motion.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from xllm.corpora import tiny_text
from xllm.files import write_jsonl_atomic
from xllm.instructions import INSTRUCTIONS
from xllm.manifest import FRAME, iterate_manifest
from xllm.speech.units import Units
from xllm.text import normalize, reading

FRAMES = range(4, 9)  # of a film
WORDS = 12_000  # most frequent words, told as if they were pictures
COMMONEST = 3_000  # of these, too abstract to be seen beside what is heard
INVENTED = 8_000  # names of characters at random: whatever is in a slot is to be said, however rare its characters
TIMES = 6  # that each concept is asked about in each way; words once
PICTURED = 12_000  # sentences heard beside a picture
REPEATED = 3  # times that each turn of the few dialogues stands in the text
ASK = {
    "image": ("这是什么？", "图中是什么？", "图片里有什么？", "请说出图中的东西", "你看到了什么？"),
    "video": ("视频里发生了什么？", "请描述这段视频", "视频中有什么在动？", "这段视频讲了什么？", "你看到什么在动？"),
    "speech": ("请回答语音中的问题", "请听语音并回答", "回答我说的问题", "请根据图片回答语音", "听一听，然后回答"),
}
ASK_KIND = ("图中有什么{}？", "这是什么{}？", "图片里的{}叫什么？")
ASK_WHETHER = ("图中有{}吗？", "这是{}吗？")
YES, NO = "有", "没有"
# What each frame shows in a motion: a place, a size, or whether it is upright or there at all.
MOTIONS = {
    "向右移动": "左中右",
    "向左移动": "右中左",
    "向上移动": "下中上",
    "向下移动": "上中下",
    "变大": "小中大",
    "变小": "大中小",
    "旋转": "中斜倒斜",
    "闪动": "中无",
}
CYCLES = ("旋转", "闪动")  # these repeat, the others happen once


def frame_states(motion: str, frames: int) -> list[str]:
    """The state of each of `frames` evenly spaced frames."""
    states = MOTIONS[motion]
    if motion in CYCLES:
        return [states[i % len(states)] for i in range(frames)]
    return [states[round(i * (len(states) - 1) / (frames - 1))] for i in range(frames)]


def film(name: str, states: Iterable[str]) -> str:
    """A film told in words, frame by frame."""
    return FRAME.join("无" if state == "无" else name + state for state in states)


def told_rows(concepts: Sequence[tuple[str, str | None]], words: Sequence[str], seed: int = 0) -> Iterator[dict]:
    """Questions and answers of things told in words.

    `concepts` are (name, kind) with kinds like 动物; `words` other names, which teach that any word may be in a slot.
    """
    draw = random.Random(seed)
    names = [name for name, _ in concepts]
    known = set(names)
    for name, kind in [*concepts, *((word, None) for word in words)]:
        times = TIMES if name in known else 1
        for _ in range(times):
            yield {"told": {"image": name}, "instruction": draw.choice(ASK["image"]), "response": name}
            yield spoken_question(draw, name, draw.choice(ASK["image"]), name)
            motion = draw.choice(list(MOTIONS))
            shown = film(name, frame_states(motion, draw.choice(FRAMES)))
            yield {"told": {"video": shown}, "instruction": draw.choice(ASK["video"]), "response": name + motion}
        if kind:
            for question in ASK_KIND:
                yield {"told": {"image": name}, "instruction": question.format(kind), "response": name}
            yield spoken_question(draw, name, draw.choice(ASK_KIND).format(kind), name)
        if name in known:
            for there in (True, False):
                asked = name if there else draw.choice(names)
                question = draw.choice(ASK_WHETHER).format(asked)
                answer = YES if asked == name else NO
                yield {"told": {"image": name}, "instruction": question, "response": answer}
                yield spoken_question(draw, name, question, answer)


def invented(characters: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Names that mean nothing, every character as often as any other."""
    draw = random.Random(seed)
    return ["".join(draw.choices(characters, k=draw.randint(1, 6))) for _ in range(count)]


def spoken_question(draw: random.Random, name: str, question: str, answer: str) -> dict:
    """A question that is heard, about a picture that is told."""
    said = normalize(question)
    return {
        "told": {"image": name, "speech": said},
        "reading": reading(said),
        "instruction": draw.choice(ASK["speech"]),
        "response": answer,
    }


def heard_with_picture(sentences: Iterable[dict], names: Iterable[str]) -> Iterator[dict]:
    """Recognition with a picture of something that is said: rows of `sentences` (response, reading) that name one."""
    by_first: dict[str, list[str]] = {}
    for name in sorted(set(names), key=len, reverse=True):
        if len(name) > 1:
            by_first.setdefault(name[0], []).append(name)
    for row in sentences:
        text = normalize(row["response"])
        seen = next((n for i, c in enumerate(text) for n in by_first.get(c, ()) if text.startswith(n, i)), None)
        if seen:
            yield {
                "told": {"image": seen, "speech": text},
                "reading": row["reading"],
                "instruction": INSTRUCTIONS["masr"][0],
                "response": row["response"],
            }


def dialogues(wheels: Path) -> Iterator[dict]:
    """Questions and answers of chatterbot-corpus, with up to two earlier turns as history."""
    for lines in tiny_text.conversations(wheels):
        pairs = zip(lines[::2], lines[1::2], strict=False)
        turns = [{"instruction": q, "response": a} for q, a in pairs if q and a]
        for i, turn in enumerate(turns):
            yield {**turn, "history": turns[max(0, i - 2) : i]}


def prepare(concepts: Sequence[tuple[str, str | None]], wheels: Path, target: Path, seed: int = 0) -> dict[str, int]:
    """Write `told.jsonl` into `target`, beside the text that `prepare-data tiny-speech` wrote there; returns counts.

    `concepts` are (name, kind), `wheels` is the folder of the text wheels. Raises XLLMError when something is missing.
    """
    known = set(Units.load(target / "tokenizer").characters)
    frequent = [word for word in tiny_text.frequent_words(wheels) if known.issuperset(word)]
    words = [word for word in frequent if len(word) > 1][:WORDS]
    texts = [row for name in ("text", "stretches") for row in iterate_manifest(target / f"{name}.jsonl")]
    pictured = list(heard_with_picture(texts, [*(name for name, _ in concepts), *words[COMMONEST:]]))
    random.Random(seed + 1).shuffle(pictured)
    words += invented([c for c in sorted(known) if reading(c)], INVENTED, seed)
    rows = [*told_rows(concepts, words, seed), *pictured[:PICTURED], *[*dialogues(wheels)] * REPEATED]
    rows = [row for row in rows if "reading" not in row or row["reading"]]
    random.Random(seed + 2).shuffle(rows)
    write_jsonl_atomic(target / "told.jsonl", ({"id": f"told-{i}", **row} for i, row in enumerate(rows)))
    return {"concepts": len(concepts), "words": len(words), "told": len(rows)}
