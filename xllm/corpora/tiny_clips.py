"""Films for `tiny`: an emoji that moves, grows, shrinks, turns or blinks on plain paper, as real mp4 files.

The films of `test` show things in motions that they never do in `train`, in pictures that `train` shows only as
stills; those of `dev` are of the pictures of `pictures-dev`.
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageColor

from xllm.corpora.tiny_instructions import ASK, MOTIONS, film, frame_states
from xllm.corpora.tiny_pictures import SIDE, STYLES
from xllm.errors import XLLMError
from xllm.files import write_jsonl_atomic
from xllm.manifest import iterate_manifest
from xllm.pictures import open_picture

COUNTS = {"train": 4000, "dev": 100, "test": 200}
FRAMES, RATE = 16, 8
SEEN = 8  # frames that recipes/tiny.yaml looks at
KEPT = 0.05  # share of the training pictures that only test films show
DIRECTIONS = {"向右移动": (1, 0), "向左移动": (-1, 0), "向上移动": (0, -1), "向下移动": (0, 1)}
Progress = Callable[[str, int, int], None]


class Pose(NamedTuple):
    """How a frame shows the picture: its centre and size in pixels, turned clockwise by degrees; size 0 is unseen."""

    x: float
    y: float
    size: float
    angle: float = 0.0


def _within(chance: random.Random, size: float) -> float:
    """A place for something of that size, so that it is seen whole."""
    return chance.uniform(size / 2, SIDE - size / 2)


def _moving(chance: random.Random, motion: str, times: Sequence[float]) -> Iterator[Pose]:
    size = chance.uniform(48, 68)
    room = SIDE - size
    first, last = (size / 2 + room * share for share in (chance.uniform(0, 0.25), chance.uniform(0.7, 1)))
    across = _within(chance, size)
    right, down = DIRECTIONS[motion]
    for time in times:
        along = first + (last - first) * time
        along = along if right + down > 0 else SIDE - along
        yield Pose(along, across, size) if right else Pose(across, along, size)


def _sizing(chance: random.Random, motion: str, times: Sequence[float]) -> Iterator[Pose]:
    small, large = chance.uniform(24, 40), chance.uniform(80, 108)
    x, y = _within(chance, large), _within(chance, large)
    for time in times:
        yield Pose(x, y, small + (large - small) * (time if motion == "变大" else 1 - time))


def _turning(chance: random.Random, motion: str, times: Sequence[float]) -> Iterator[Pose]:
    size = chance.uniform(56, SIDE / 2**0.5)
    x, y = (_within(chance, size * 2**0.5) for _ in "xy")
    whole = chance.uniform(270, 600) * chance.choice((1, -1))
    for time in times:
        yield Pose(x, y, size, whole * time)


def _blinking(chance: random.Random, motion: str, times: Sequence[float]) -> Iterator[Pose]:
    """Periods are never 4 or 8 frames, so that whoever looks at every other or every fourth frame sees it, too."""
    size = chance.uniform(56, 96)
    x, y = _within(chance, size), _within(chance, size)
    seen, dark = chance.choice((3, 4)), chance.choice((2, 3))
    start = chance.randrange(seen + dark)
    for frame in range(len(times)):
        yield Pose(x, y, size if (start + frame) % (seen + dark) < seen else 0)


def poses(motion: str, chance: random.Random) -> list[Pose]:
    """One telling of a motion, frame by frame."""
    kinds = {"变大": _sizing, "变小": _sizing, "旋转": _turning, "闪动": _blinking}
    return list(kinds.get(motion, _moving)(chance, motion, [i / (FRAMES - 1) for i in range(FRAMES)]))


def frame(picture: Image.Image, pose: Pose, paper: str) -> Image.Image:
    """The picture on coloured paper, which shows through the white in every colour; pure colours stay what they are."""
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    if pose.size:
        turned = picture.rotate(-pose.angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
        side = round(turned.width * pose.size / picture.width)
        shown = turned.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(shown, (round(pose.x - side / 2), round(pose.y - side / 2)))
    pixels, missing = np.asarray(sheet, np.float32), 255 - np.float32(ImageColor.getrgb(paper))
    return Image.fromarray((pixels - pixels.min(-1, keepdims=True) / 255 * missing).round().astype(np.uint8))


def write_film(path: Path, frames: Iterable[Image.Image]) -> None:
    """An mp4 of RATE frames a second, H.264 where FFmpeg can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as film:
        known = "libx264" in av.codecs_available
        # x264's look at coming frames reads memory that nobody wrote: other bytes in one run of six.
        options = {"crf": "24", "x264-params": "mbtree=0"} if known else {}
        track = film.add_stream("libx264" if known else "mpeg4", rate=RATE, options=options)
        track.width = track.height = SIDE
        track.pix_fmt = "yuv420p"
        track.thread_count = 1  # the same bytes on any machine
        for image in frames:
            film.mux(track.encode(av.VideoFrame.from_ndarray(np.asarray(image))))
        film.mux(track.encode(None))


def assign(
    train: Sequence[dict], dev: Sequence[dict], counts: Mapping[str, int], seed: int
) -> dict[str, list[tuple[dict, str]]]:
    """(picture, motion) of each film by split; pictures are samples of `pictures-train` and `pictures-dev`.

    Splits share no picture and no pair of a thing and a motion; within one, things come up equally often. Raises
    XLLMError when there are too few pictures.
    """
    chance = random.Random(seed)
    left = Counter(row["response"] for row in train)
    kept: list[dict] = []
    for row in chance.sample(train, len(train)):
        if len(kept) < max(1, round(len(train) * KEPT)) and left[row["response"]] > 1:
            kept.append(row)
            left[row["response"]] -= 1
    ids = {row["id"] for row in kept}
    films: dict[str, list[tuple[dict, str]]] = {}
    taken: set[tuple[str, str]] = set()
    for part, rows in (("test", kept), ("dev", dev), ("train", [row for row in train if row["id"] not in ids])):
        pairs = [(row, motion) for row in rows for motion in MOTIONS if (row["response"], motion) not in taken]
        if counts[part] and not pairs:
            raise XLLMError(f"too few pictures for films of {part!r}; run: xllm prepare-data tiny-pictures")
        chance.shuffle(pairs)
        turn: dict[str, Iterator[int]] = defaultdict(itertools.count)
        pairs.sort(key=lambda pair: next(turn[pair[0]["response"]]))  # everything once, then everything again
        films[part] = [pairs[i % len(pairs)] for i in range(counts[part])]
        taken |= {(row["response"], motion) for row, motion in films[part]}
    return films


def prepare(
    target: Path, counts: Mapping[str, int] = COUNTS, seed: int = 0, progress: Progress | None = None
) -> dict[str, int]:
    """Write `clips/` and `clips-{train,dev,test}.jsonl` into `target`, which holds the pictures; returns counts.

    Raises XLLMError when the pictures are missing.
    """
    pictures = {}
    for part in ("train", "dev"):
        rows = iterate_manifest(target / f"pictures-{part}.jsonl")
        pictures[part] = [row for row in rows if row["id"].partition("/")[0] in STYLES]  # stamps have other terms
    films = assign(pictures["train"], pictures["dev"], counts, seed)
    done = 0
    for part in COUNTS:
        rows = []
        for number, (picture, motion) in enumerate(films[part]):
            name = f"clips/{part}/{number:04d}"
            chance = random.Random(f"{seed} {name}")
            paper = f"hsl({chance.randrange(360)}, {chance.randint(30, 90)}%, {chance.randint(82, 95)}%)"
            with open_picture(picture["image"][0]) as image:
                drawn = image.convert("RGB")
            write_film(target / f"{name}.mp4", (frame(drawn, pose, paper) for pose in poses(motion, chance)))
            instruction = chance.choice(ASK["video"] if part == "train" else ASK["video"][:1])
            response = picture["response"] + motion
            row = {"id": name, "video": f"{name}.mp4", "response": response, "instruction": instruction}
            rows.append(row | {"told": {"video": film(picture["response"], frame_states(motion, SEEN))}})
            done += 1
            if progress:
                progress("clips", done, sum(counts.values()))
        write_jsonl_atomic(target / f"clips-{part}.jsonl", rows)
    return {f"clips-{part}": len(films[part]) for part in COUNTS}
