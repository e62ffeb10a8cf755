"""Videos for `base`: a photograph or an emoji that moves, grows, shrinks, turns or blinks on plain paper, as mp4 files.

    python recipes/base/films.py data/base

reads the manifests that pictures.py wrote into OUT and writes OUT/videos-{train,dev,test}.jsonl, half of them of
photographs, half of emoji, or of photographs alone where there are no emoji, with OUT/videos/*.mp4. What exists is
kept. Videos of `test` show test photographs, of things that photographs of `train` show, and emoji that `train` shows
only as stills; no thing moves in two splits alike.
"""

import argparse
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageColor, ImageOps

from xllm.corpora.tiny_clips import RATE, Pose, poses
from xllm.corpora.tiny_drawings import SIDE as DRAWN_SIDE
from xllm.corpora.tiny_instructions import ASK, MOTIONS, film, frame_states
from xllm.corpora.tiny_pictures import STYLES
from xllm.files import write_jsonl_atomic
from xllm.manifest import located
from xllm.members import open_any
from xllm.pictures import open_picture, over_white

SIDE = 192  # pixels, of a video
SEEN = 8  # frames that the recipe samples
COUNTS = {"train": 4000, "dev": 100, "test": 200}
KEPT = 0.05  # share of the training emoji that only videos of `test` show


def frame(picture: Image.Image, photograph: bool, paper: str, pose: Pose) -> Image.Image:
    """A picture on coloured paper, which shows through the white of an emoji, not of a photograph."""
    ground = paper if photograph else "white"
    sheet, scale = Image.new("RGB", (SIDE, SIDE), ground), SIDE / DRAWN_SIDE
    if pose.size:
        turned = picture.rotate(-pose.angle, Image.Resampling.BICUBIC, expand=True, fillcolor=ImageColor.getrgb(ground))
        side = round(turned.width * pose.size * scale / picture.width)
        shown = turned.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(shown, (round(pose.x * scale - side / 2), round(pose.y * scale - side / 2)))
    if photograph:
        return sheet
    pixels, missing = np.asarray(sheet, np.float32), 255 - np.float32(ImageColor.getrgb(paper))
    return Image.fromarray((pixels - pixels.min(-1, keepdims=True) / 255 * missing).round().astype(np.uint8))


def write_video(path: Path, frames: Iterator[Image.Image]) -> None:
    """An mp4 of RATE frames a second, H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp.mp4")
    with av.open(str(unfinished), "w") as video:
        # x264's look at coming frames reads memory that nobody wrote: other bytes in one run of six.
        track = video.add_stream("libx264", rate=RATE, options={"crf": "24", "x264-params": "mbtree=0"})
        track.width = track.height = SIDE
        track.pix_fmt = "yuv420p"
        track.thread_count = 1  # the same bytes on any machine
        for image in frames:
            video.mux(track.encode(av.VideoFrame.from_ndarray(np.asarray(image))))
        video.mux(track.encode(None))
    unfinished.replace(path)


def read_images(out: Path, name: str) -> list[dict]:
    """Rows of a manifest that ask for the name of an image, if there is one; stamps have other terms."""
    path = out / f"{name}.jsonl"
    rows = [row for _, row in located(path)] if path.exists() else []
    named = [row for row in rows if row["instruction"]]
    return named if name.startswith("photos") else [row for row in named if row["id"].partition("/")[0] in STYLES]


def pools(out: Path, chance: random.Random) -> list[dict[str, list[dict]]]:
    """Images by split, of photographs and of emoji."""
    photos = {split: read_images(out, f"photos-{split}") for split in COUNTS}
    taught = {row["response"] for row in photos["train"]}
    photos = {split: [row for row in rows if row["response"] in taught] for split, rows in photos.items()}
    train, dev = read_images(out, "emoji-train"), read_images(out, "emoji-dev")
    left, kept = Counter(row["response"] for row in train), []
    for row in chance.sample(train, len(train)):
        if len(kept) < len(train) * KEPT and left[row["response"]] > 1:
            kept.append(row)
            left[row["response"]] -= 1
    ids = {row["id"] for row in kept}
    emoji = {"train": [row for row in train if row["id"] not in ids], "dev": dev, "test": kept}
    return [pool for pool in (photos, emoji) if pool["train"]]


def assign(
    pool: Mapping[str, Sequence[dict]], counts: Mapping[str, int], chance: random.Random
) -> dict[str, list[tuple[dict, str]]]:
    """(image, motion) of each video by split; splits share no pair of a thing and a motion, tests choose first."""
    videos: dict[str, list[tuple[dict, str]]] = {}
    taken: set[tuple[str, str]] = set()
    for split in reversed(COUNTS):
        pairs = [(row, motion) for row in pool[split] for motion in MOTIONS if (row["response"], motion) not in taken]
        chance.shuffle(pairs)
        turn: dict[str, Iterator[int]] = defaultdict(itertools.count)
        pairs.sort(key=lambda pair: next(turn[pair[0]["response"]]))  # everything once, then everything again
        videos[split] = [pairs[i % len(pairs)] for i in range(counts[split])] if pairs else []
        taken |= {(row["response"], motion) for row, motion in videos[split]}
    return videos


def make(out: Path, split: str, number: int, image: dict, motion: str) -> dict:
    """Write a video, unless it is there, and give its row."""
    name = f"videos/{split}/{number:05d}"
    chance = random.Random(f"0 {name}")
    paper = f"hsl({chance.randrange(360)}, {chance.randint(30, 90)}%, {chance.randint(82, 95)}%)"
    if not (out / f"{name}.mp4").exists():
        photograph = image["id"].partition("/")[0] not in STYLES
        with open_any(image["image"][0]) as file, open_picture(file) as opened:
            side = max(opened.size)
            square = ImageOps.pad(over_white(opened), (side, side), color=paper if photograph else "white")
        shown = map(partial(frame, square, photograph, paper), poses(motion, chance))
        write_video(out / f"{name}.mp4", shown)
    asked = chance.choice(ASK["video"]) if split == "train" else ASK["video"][0]
    told = {"video": film(image["response"], frame_states(motion, SEEN))}
    accept = [label + motion for label in image.get("accept") or [image["response"]]]
    row = {"id": name, "video": f"{name}.mp4", "response": image["response"] + motion, "instruction": asked}
    return row | {"told": told, "accept": accept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=COUNTS["train"], help="videos to train on")
    given = parser.parse_args()
    chance = random.Random(0)
    sources = pools(given.out, chance)
    counts = {split: count // len(sources) for split, count in (COUNTS | {"train": given.train}).items()}
    each = [assign(pool, counts, chance) for pool in sources]
    for split in COUNTS:
        chosen = [pair for videos in each for pair in videos[split]]
        rows = [make(given.out, split, number, *pair) for number, pair in enumerate(chosen)]
        write_jsonl_atomic(given.out / f"videos-{split}.jsonl", rows)
        print(f"videos-{split}: {len(rows)} videos of {len({image['response'] for image, _ in chosen})} things")


if __name__ == "__main__":
    main()
