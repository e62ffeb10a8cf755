"""A world small enough to be learned in minutes, made from nothing: a voice, coloured shapes, and shapes that move.

Speech is numbers of one to six digits, and questions, in the voice of `demo_voice`. Images are the shapes of
`demo_drawings`; of each colour one shape is kept out of training, and of each shape one colour. Videos are such shapes
that move. The language model reads about all of this in words. Everything is a function of the seed.
"""

import random
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from xllm.corpora import demo_drawings, demo_voice
from xllm.corpora.demo_drawings import COLOURS, MOTIONS, PLACES, SHAPES
from xllm.corpora.tiny_text import write_tokenizer
from xllm.files import write_jsonl_atomic
from xllm.media import SAMPLE_RATE

COUNTS = {"train": 1.0, "dev": 0.05, "test": 0.1}  # of the sizes below
SPOKEN, ASKED, PICTURED, FILMED, WRITTEN = 1000, 300, 2800, 700, 24_000

TRANSCRIBE, REPLY = "请忠实地识别语音", "请回答语音中的问题"
NAME, COLOUR, SHAPE = "这是什么？", "什么颜色？", "什么形状？"  # these are asked in speech, too
PLACE, MOTION = "在哪里？", "它怎么移动？"
QUESTIONS = (NAME, COLOUR, SHAPE, PLACE)  # about an image
READINGS = {  # initial, final and tone of what is spoken
    "零": "l ing 2", "一": "- i 1", "二": "- er 4", "三": "s an 1", "四": "s ii 4", "五": "- u 3", "六": "l iu 4",
    "七": "q i 1", "八": "b a 1", "九": "j iu 3", "这": "zh e 4", "是": "sh ii 4", "什": "sh en 2", "么": "m e 5",
    "颜": "- ian 2", "色": "s e 4", "形": "x ing 2", "状": "zh uang 4",
}  # fmt: skip
DIGITS = "零一二三四五六七八九"
SLOT = 8  # embeddings that recipes/demo.yaml makes of an image or a frame: so long are their words
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
HELD_OUT = [(colour, SHAPES[(number + 2) % len(SHAPES)]) for number, colour in enumerate(COLOURS)]
WORDS = (TRANSCRIBE, REPLY, NAME, COLOUR, SHAPE, PLACE, MOTION, *READINGS, *COLOURS, *SHAPES, *PLACES, *MOTIONS, "的")
CHARACTERS = "".join(sorted({c for c in "".join(WORDS) if "\u4e00" <= c <= "\u9fff"}))

Progress = Callable[[str, int, int], None]


def name(colour: str, shape: str) -> str:
    """What a thing is called: 红色的圆形."""
    return f"{colour}的{shape}"


def _say(path: Path, text: str, draw: np.random.Generator) -> float:
    """Speak into a file; returns its seconds."""
    syllables = [tuple("" if part == "-" else part for part in READINGS[c].split()) for c in text]
    wave = demo_voice.speak(syllables, demo_voice.draw_speaker(draw), draw)
    wave *= draw.uniform(0.1, 0.8) / np.abs(wave).max()
    before, after = (np.zeros(int(SAMPLE_RATE * draw.uniform(0.15, 0.5))) for _ in range(2))
    wave = np.concatenate([before, wave, after])
    wave += 10 ** draw.uniform(-3.5, -2.3) * draw.standard_normal(len(wave))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave.clip(-1, 1), SAMPLE_RATE, subtype="PCM_16")
    return len(wave) / SAMPLE_RATE


class _Maker:
    """Writes one split."""

    def __init__(self, target: Path, split: str, share: float, seed: int, done: Callable[[str], None]):
        self.target, self.split, self.share, self.done = target, split, share, done
        self.draw = random.Random(f"{seed} {split}")
        self.voice = np.random.default_rng([seed, *split.encode()])

    def count(self, size: int) -> int:
        return max(4, round(self.share * size * COUNTS[self.split]))

    def _spoken(self, kind: str, number: int, text: str) -> dict:
        speech = f"speech/{self.split}/{kind}-{number:04d}.wav"
        seconds = _say(self.target / speech, text.rstrip("？"), self.voice)
        self.done("speech")
        return {"speech": speech, "duration": round(seconds, 3)}

    def numbers(self) -> Iterator[dict]:
        """Spoken numbers and their transcripts."""
        for number in range(self.count(SPOKEN)):
            text = "".join(self.draw.choices(DIGITS, k=self.draw.randint(1, 6)))
            row = {"id": f"number-{number}", **self._spoken("number", number, text)}
            yield row | {"instruction": TRANSCRIBE, "response": text}

    def questions(self) -> Iterator[dict]:
        """The questions that are asked in speech, transcribed."""
        for number in range(self.count(ASKED)):
            text = (NAME, COLOUR, SHAPE)[number % 3]
            row = {"id": f"question-{number}", **self._spoken("question", number, text)}
            yield row | {"instruction": TRANSCRIBE, "response": text.rstrip("？")}

    def images(self, kind: str, pairs: list[tuple[str, str]], size: int) -> Iterator["_Shown"]:
        """Drawings of the pairs in any order."""
        every = [pairs[number % len(pairs)] for number in range(self.count(size))]
        self.draw.shuffle(every)
        for number, (colour, shape) in enumerate(every):
            path = f"images/{self.split}/{kind}-{number:04d}.png"
            (self.target / path).parent.mkdir(parents=True, exist_ok=True)
            shown = _Shown(path, colour, shape, self.draw.choice(list(PLACES)))
            demo_drawings.image(colour, shape, shown.place, self.draw).save(self.target / path)
            self.done("images")
            yield shown

    def videos(self, kind: str, pairs: list[tuple[str, str]], size: int) -> Iterator[dict]:
        """Videos and what happens in them."""
        every = [(*pair, motion) for pair in pairs for motion in MOTIONS]
        self.draw.shuffle(every)
        for number in range(self.count(size)):
            colour, shape, motion = every[number % len(every)]
            path = f"videos/{self.split}/{kind}-{number:04d}.gif"
            (self.target / path).parent.mkdir(parents=True, exist_ok=True)
            first, *others = demo_drawings.video(colour, shape, motion, self.draw)
            first.save(self.target / path, save_all=True, append_images=others, duration=125)
            self.done("videos")
            row = {"id": f"{kind}-{number}", "video": path, "instruction": MOTION}
            yield row | {"response": name(colour, shape) + motion}


class _Shown(NamedTuple):
    """An image file and what it shows."""

    path: str
    colour: str
    shape: str
    place: str

    def answers(self) -> dict[str, str]:
        """To each question about an image."""
        return {NAME: name(self.colour, self.shape), COLOUR: self.colour, SHAPE: self.shape, PLACE: self.place}

    @property
    def whole(self) -> str:
        """All of it in one name, from which the image encoder learns: 左边的红色的圆形."""
        return f"{self.place}的{name(self.colour, self.shape)}"

    def row(self, question: str) -> dict:
        return {
            "id": f"{self.path} {question}",
            "image": self.path,
            "instruction": question,
            "response": self.answers()[question],
        }


def _aloud(shown: _Shown, question: dict) -> dict:
    """The image with a spoken question."""
    spoken = {key: question[key] for key in ("speech", "duration")}
    row = shown.row(question["response"] + "？")
    return row | spoken | {"id": f"{shown.path} aloud", "instruction": REPLY}


def _frames_in_words(thing: str, motion: str) -> str:
    """What four frames show: the thing and where it is, from one side over the middle to the other."""
    right, down = MOTIONS[motion]
    first, last = ("左", "右") if right else ("上", "下")
    places = (first, "中", "中", last)
    return "".join((thing + place).ljust(SLOT) for place in (places if right + down > 0 else places[::-1]))


def _text(kind: str, draw: random.Random) -> str:
    """A prompt whose media are told in words, with its answer."""
    colour, shape = draw.choice(PAIRS)
    shown = _Shown("", colour, shape, draw.choice(list(PLACES)))
    seen = f"<Image>{(name(colour, shape) + shown.place[0]).ljust(SLOT)}</Image>"
    question = draw.choice(QUESTIONS[:3] if kind == "aloud" else QUESTIONS)
    answer = shown.answers()[question]
    if kind == "image":
        return f"{seen}Question: {question} \n Answer:{answer}"
    if kind == "aloud":
        return f"{seen}<Speech>{question.rstrip('？')}</Speech>Question: {REPLY} \n Answer:{answer}"
    if kind == "video":
        motion = draw.choice(list(MOTIONS))
        told = _frames_in_words(name(colour, shape), motion)
        return f"<Video>{told}</Video>Question: {MOTION} \n Answer:{name(colour, shape)}{motion}"
    said = "".join(draw.choices(draw.choice((DIGITS, CHARACTERS)), k=draw.randint(1, 7)))
    return f"<Speech>{said}</Speech>Question: {TRANSCRIBE} \n Answer:{said}"


def _texts(draw: random.Random, count: int) -> Iterator[str]:
    """What a small language model has to have read before it can answer for media: the same in words.

    Not only numbers are said: so it learns to repeat, which takes it longest, and not some numbers.
    """
    kinds = ("speech", "image", "speech", "video", "speech", "aloud", "speech", "video")
    for number in range(count):
        yield _text(kinds[number % len(kinds)], draw)


def prepare(target: Path, share: float = 1.0, seed: int = 0, progress: Progress | None = None) -> dict[str, int]:
    """Write media, manifests and `tokenizer/` into `target`; returns the rows of each manifest.

    `share` makes everything smaller.
    """
    write_tokenizer(target / "tokenizer", list(CHARACTERS), [])
    counts: dict[str, int] = {}
    made: dict[str, int] = {}

    def done(what: str) -> None:
        made[what] = made.get(what, 0) + 1
        if progress:
            progress(what, made[what], 0)

    def write(manifest: str, rows: list[dict]) -> list[dict]:
        write_jsonl_atomic(target / f"{manifest}.jsonl", rows)
        counts[manifest] = len(rows)
        return rows

    known = [pair for pair in PAIRS if pair not in HELD_OUT]
    for split in COUNTS:
        maker = _Maker(target, split, share, seed, done)
        numbers, questions = list(maker.numbers()), list(maker.questions())
        images = list(maker.images("known", known, PICTURED))
        write(f"speech-{split}", [*numbers, *questions] if split == "train" else numbers)
        write(f"names-{split}", [shown.row(NAME) | {"response": shown.whole} for shown in images])
        write(f"images-{split}", [shown.row(QUESTIONS[n % len(QUESTIONS)]) for n, shown in enumerate(images)])
        write(f"videos-{split}", list(maker.videos("known", known, FILMED)))
        write(f"aloud-{split}", list(map(_aloud, images, cycle(questions))))
        texts = _texts(random.Random(f"{seed} text {split}"), maker.count(WRITTEN))
        write(f"text-{split}", [{"id": f"text-{n}", "response": text} for n, text in enumerate(texts)])
        if split == "test":
            held_out = list(maker.images("held-out", HELD_OUT, PICTURED))
            write("images-held-out", [shown.row(NAME) for shown in held_out])
            write("videos-held-out", list(maker.videos("held-out", HELD_OUT, FILMED)))
    return counts
