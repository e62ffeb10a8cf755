"""A world small enough to be learned in minutes, made from nothing: a voice, coloured shapes, and shapes that move.

Speech is numbers of one to six digits, and questions, in the voice of `demo_voice`. Images are shapes of one colour
somewhere on a tinted ground; of each colour one shape is kept out of training, and of each shape one colour. Videos are
such shapes that move. The language model reads about all of this in words. Everything is a function of the seed.
"""

import random
from collections.abc import Callable, Iterator
from math import cos, pi, sin
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw

from xllm.corpora import demo_voice
from xllm.corpora.tiny_text import write_tokenizer
from xllm.files import write_jsonl_atomic
from xllm.media import SAMPLE_RATE

SIDE, FRAMES = 64, 8  # pixels of images and videos, frames of a video
COUNTS = {"train": 1.0, "dev": 0.05, "test": 0.1}  # of the sizes below
SPOKEN, PICTURED, FILMED, WRITTEN = 1000, 1400, 700, 24_000
FINE = 3  # shapes are drawn so many times larger, for smooth edges

TRANSCRIBE, REPLY = "请忠实地识别语音", "请回答语音中的问题"
NAME, COLOUR, SHAPE, MOTION = "这是什么？", "什么颜色？", "什么形状？", "它怎么移动？"
READINGS = {  # initial, final and tone of what is spoken
    "零": "l ing 2", "一": "- i 1", "二": "- er 4", "三": "s an 1", "四": "s ii 4", "五": "- u 3", "六": "l iu 4",
    "七": "q i 1", "八": "b a 1", "九": "j iu 3", "这": "zh e 4", "是": "sh ii 4", "什": "sh en 2", "么": "m e 5",
    "颜": "- ian 2", "色": "s e 4", "形": "x ing 2", "状": "zh uang 4",
}  # fmt: skip
DIGITS = "零一二三四五六七八九"
COLOURS = {  # hue in degrees, saturation and lightness in percent
    "红色": (0, 90, 45), "橙色": (28, 95, 52), "黄色": (55, 95, 50), "绿色": (120, 80, 36),
    "蓝色": (215, 90, 45), "紫色": (280, 75, 42), "粉色": (335, 90, 72), "黑色": (0, 0, 13),
}  # fmt: skip
SHAPES = ("圆形", "方形", "三角形", "五角星", "十字形", "心形", "菱形", "月牙形")
MOTIONS = {"向左移动": (-1, 0), "向右移动": (1, 0), "向上移动": (0, -1), "向下移动": (0, 1)}
SLOT = 8  # embeddings that recipes/demo.yaml makes of an image or a frame: so long are their words
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
HELD_OUT = [(colour, SHAPES[(number + 2) % len(SHAPES)]) for number, colour in enumerate(COLOURS)]
WORDS = (TRANSCRIBE, REPLY, NAME, COLOUR, SHAPE, MOTION, *READINGS, *COLOURS, *SHAPES, *MOTIONS, "左右上下中的")
CHARACTERS = "".join(sorted({c for c in "".join(WORDS) if "\u4e00" <= c <= "\u9fff"}))

Progress = Callable[[str, int, int], None]


def name(colour: str, shape: str) -> str:
    """What a thing is called: 红色的圆形."""
    return f"{colour}的{shape}"


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape about 0, 0 that reach as far as 1."""
    if shape == "圆形":
        return [(cos(2 * pi * i / 60), sin(2 * pi * i / 60)) for i in range(60)]
    if shape == "方形":
        return [(x, y) for x, y in ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))]
    if shape == "三角形":
        return [(sin(2 * pi * i / 3), -cos(2 * pi * i / 3)) for i in range(3)]
    if shape == "五角星":
        reach = [1.0, 0.42]
        return [(reach[i % 2] * sin(pi * i / 5), -reach[i % 2] * cos(pi * i / 5)) for i in range(10)]
    if shape == "十字形":
        arm = [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)]
        return arm + [(-x, -y) for x, y in arm]
    if shape == "菱形":
        return [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)]
    if shape == "月牙形":  # a circle without another one
        outer = [(cos(t), sin(t)) for t in np.linspace(0.28 * pi, 1.72 * pi, 40)]
        return outer + [(0.55 + 0.78 * cos(t), 0.78 * sin(t)) for t in np.linspace(1.54 * pi, 0.46 * pi, 40)]
    turns = [2 * pi * i / 60 for i in range(60)]  # a heart
    return [(sin(t) ** 3, -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 16) for t in turns]


class Scene:
    """One colour, shape, size and ground, to be drawn at several places."""

    def __init__(self, colour: str, shape: str, draw: random.Random, largest: float = 0.38):
        self.size = draw.uniform(0.2, largest)  # of SIDE, from the middle to the rim
        turn = draw.uniform(-0.25, 0.25)
        self.corners = [(x * cos(turn) - y * sin(turn), x * sin(turn) + y * cos(turn)) for x, y in _outline(shape)]
        hue, saturation, lightness = COLOURS[colour]
        hue, lightness = (hue + draw.randint(-7, 7)) % 360, lightness + draw.randint(-5, 5)
        self.colour = f"hsl({hue}, {saturation}%, {lightness}%)"
        self.ground = f"hsl({draw.randrange(360)}, {draw.randint(0, 60)}%, {draw.randint(78, 97)}%)"
        self.noise = np.random.default_rng(draw.randrange(1 << 30))

    def at(self, x: float, y: float) -> Image.Image:
        """Drawn with its middle at a share of what is free, 0 to 1 from the left and the top, under camera noise."""
        middle = [self.size + share * (1 - 2 * self.size) for share in (x, y)]
        points = [
            tuple(SIDE * FINE * (m + self.size * c) for m, c in zip(middle, corner, strict=True))
            for corner in self.corners
        ]
        sheet = Image.new("RGB", (SIDE * FINE, SIDE * FINE), self.ground)
        ImageDraw.Draw(sheet).polygon(points, fill=self.colour)
        small = np.asarray(sheet.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
        noisy = small + self.noise.normal(0, 6, small.shape)
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _film(colour: str, shape: str, motion: str, draw: random.Random) -> list[Image.Image]:
    """The shape on its way, from one side to the other."""
    scene, (right, down) = Scene(colour, shape, draw, 0.3), MOTIONS[motion]
    first, last, across = draw.uniform(0, 0.2), draw.uniform(0.8, 1), draw.random()
    places = [first + (last - first) * i / (FRAMES - 1) for i in range(FRAMES)]
    places = [1 - place if right + down < 0 else place for place in places]
    frames = [scene.at(place, across) if right else scene.at(across, place) for place in places]
    return [frame.quantize(64, Image.Quantize.FASTOCTREE) for frame in frames]  # as GIF wants them


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
        for number in range(self.count(SPOKEN // 5)):
            text = (NAME, COLOUR, SHAPE)[number % 3]
            row = {"id": f"question-{number}", **self._spoken("question", number, text)}
            yield row | {"instruction": TRANSCRIBE, "response": text.rstrip("？")}

    def images(self, kind: str, pairs: list[tuple[str, str]], size: int) -> Iterator[tuple[str, str, str]]:
        """(path, colour, shape) of drawings."""
        every = [pairs[number % len(pairs)] for number in range(self.count(size))]
        self.draw.shuffle(every)
        for number, (colour, shape) in enumerate(every):
            path = f"images/{self.split}/{kind}-{number:04d}.png"
            (self.target / path).parent.mkdir(parents=True, exist_ok=True)
            Scene(colour, shape, self.draw).at(self.draw.random(), self.draw.random()).save(self.target / path)
            self.done("images")
            yield path, colour, shape

    def videos(self, kind: str, pairs: list[tuple[str, str]], size: int) -> Iterator[dict]:
        """Videos and what happens in them."""
        every = [(*pair, motion) for pair in pairs for motion in MOTIONS]
        self.draw.shuffle(every)
        for number in range(self.count(size)):
            colour, shape, motion = every[number % len(every)]
            path = f"videos/{self.split}/{kind}-{number:04d}.gif"
            (self.target / path).parent.mkdir(parents=True, exist_ok=True)
            first, *others = _film(colour, shape, motion, self.draw)
            first.save(self.target / path, save_all=True, append_images=others, duration=125)
            self.done("videos")
            row = {"id": f"{kind}-{number}", "video": path, "instruction": MOTION}
            yield row | {"response": name(colour, shape) + motion}


def _answers(colour: str, shape: str) -> dict[str, str]:
    return {NAME: name(colour, shape), COLOUR: colour, SHAPE: shape}


def _asked(images: list[tuple[str, str, str]]) -> Iterator[dict]:
    """Each image with each of the written questions."""
    for path, colour, shape in images:
        for question, answer in _answers(colour, shape).items():
            yield {"id": f"{path} {question}", "image": path, "instruction": question, "response": answer}


def _asked_aloud(images: list[tuple[str, str, str]], questions: list[dict]) -> Iterator[dict]:
    """Each image with a spoken question."""
    for number, (path, colour, shape) in enumerate(images):
        question = questions[number % len(questions)]
        answer = _answers(colour, shape)[question["response"] + "？"]
        row = {key: question[key] for key in ("speech", "duration")}
        yield {"id": f"{path} aloud", "image": path, **row, "instruction": REPLY, "response": answer}


def _frames_in_words(thing: str, motion: str) -> str:
    """What four frames show: the thing and where it is, from one side over the middle to the other."""
    right, down = MOTIONS[motion]
    first, last = ("左", "右") if right else ("上", "下")
    places = (first, "中", "中", last)
    return "".join((thing + place).ljust(SLOT) for place in (places if right + down > 0 else places[::-1]))


def _text(kind: str, draw: random.Random) -> str:
    """A prompt whose media are told in words, with its answer."""
    colour, shape = draw.choice(PAIRS)
    seen = f"<Image>{name(colour, shape).ljust(SLOT)}</Image>"
    question, answer = draw.choice(list(_answers(colour, shape).items()))
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
        asked = write(f"images-{split}", list(_asked(images)))
        write(f"names-{split}", [row for row in asked if row["instruction"] == NAME])
        write(f"videos-{split}", list(maker.videos("known", known, FILMED)))
        write(f"aloud-{split}", list(_asked_aloud(images, questions)))
        texts = _texts(random.Random(f"{seed} text {split}"), maker.count(WRITTEN))
        write(f"text-{split}", [{"id": f"text-{n}", "response": text} for n, text in enumerate(texts)])
        if split == "test":
            held_out = list(maker.images("held-out", HELD_OUT, PICTURED))
            write("images-held-out", list(_asked(held_out)))
            write("videos-held-out", list(maker.videos("held-out", HELD_OUT, FILMED)))
    return counts
