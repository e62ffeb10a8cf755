"""Films: real mp4 files that show what their label says, of pictures and motions that the splits do not share."""

import json
import random
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

from xllm.corpora import tiny_clips
from xllm.corpora.tiny_instructions import ASK, MOTIONS
from xllm.errors import ManifestError, XLLMError
from xllm.manifest import iterate_manifest

COUNTS = {"train": 40, "dev": 4, "test": 6}


@pytest.fixture
def folder(tmp_path):
    """Pictures as tiny_pictures writes them: a black L on white, of ten things in two styles, and one stamp."""
    image = Image.new("RGB", (112, 112), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((20, 10, 45, 100), fill="black")
    pen.rectangle((20, 75, 90, 100), fill="black")
    rows = [(f"{style}/{i}", name) for style in ("noto", "twemoji") for i, name in enumerate("猫狗马牛羊鸡鸭鹅鱼虾")]
    for part, chosen in (("train", [*rows[:18], ("stamps/x", "星")]), ("dev", rows[18:])):
        lines = []
        for name, response in chosen:
            path = tmp_path / "pictures" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            lines.append({"id": name, "image": f"pictures/{name}.png", "response": response, "instruction": "?"})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"pictures-{part}.jsonl").write_text(text)
    return tmp_path


def darkness(path: Path) -> np.ndarray:
    """How much of each pixel's paper is covered: [T, H, W] in 0..1."""
    with av.open(str(path)) as film:
        frames = np.stack([frame.to_ndarray(format="gray") for frame in film.decode(video=0)]).astype(float)
    cover = 1 - frames / np.median(frames[:, :2], axis=None)
    return np.where(cover > 0.3, cover, 0)


def centre(cover: np.ndarray) -> np.ndarray:
    """x and y of each frame's centre of mass: [T, 2]."""
    y, x = np.mgrid[: cover.shape[1], : cover.shape[2]]
    mass = cover.sum((1, 2))
    return np.stack([(cover * x).sum((1, 2)) / mass, (cover * y).sum((1, 2)) / mass], axis=1)


def lean(cover: np.ndarray) -> np.ndarray:
    """Angle of each frame's longest axis in degrees, 0..180: [T]."""
    out = []
    for frame in cover:
        y, x = np.nonzero(frame)
        axis = np.linalg.eigh(np.cov(np.stack([x, y])))[1][:, 1]
        out.append(np.degrees(np.arctan2(axis[1], axis[0])) % 180)
    return np.array(out)


@pytest.mark.parametrize("motion", MOTIONS)
def test_films_show_the_motion_of_their_label(folder, tmp_path, motion):
    with Image.open(folder / "pictures/noto/0.png") as picture:
        for seed in range(6):
            shown = tiny_clips.poses(motion, random.Random(seed))
            tiny_clips.write_film(tmp_path / "film.mp4", (tiny_clips.frame(picture, pose, "#ffe9c0") for pose in shown))
            cover = darkness(tmp_path / "film.mp4")
            assert cover.shape == (16, 112, 112)
            mass = cover.sum((1, 2))
            if motion == "闪动":
                seen = mass > mass.max() / 2
                assert (mass[~seen] < mass.max() / 50).all() and 5 <= seen.sum() <= 12
                assert all(len(set(seen[i::step])) == 2 for step in (2, 4) for i in range(step))
                assert np.ptp(centre(cover[seen]), axis=0).max() < 1
                continue
            path, way = np.diff(centre(cover), axis=0), np.ptp(centre(cover), axis=0)
            if motion in tiny_clips.DIRECTIONS:
                forward = path @ np.array(tiny_clips.DIRECTIONS[motion])
                assert (forward > 0).all() and forward.sum() > 18 and min(way) < 1
                assert np.ptp(mass) < 0.1 * mass.max()
            elif motion == "旋转":
                turns = np.diff(lean(cover))
                assert np.abs((turns + 90) % 180 - 90).sum() > 240 and np.ptp(mass) < 0.1 * mass.max()
            else:
                growth = np.diff(mass) * (1 if motion == "变大" else -1)
                assert (growth > 0).all() and mass.max() > 3 * mass.min() and lean(cover).std() < 5


def test_white_shows_the_paper_and_pure_colours_stay():
    picture = Image.new("RGB", (112, 112), "white")
    ImageDraw.Draw(picture).rectangle((30, 30, 80, 80), fill="#ff0000")
    still = tiny_clips.frame(picture, tiny_clips.Pose(56, 56, 112), "#cceeff")
    assert still.getpixel((5, 5)) == (0xCC, 0xEE, 0xFF) and still.getpixel((56, 56)) == (255, 0, 0)


def test_splits_share_neither_pictures_nor_pairs_of_thing_and_motion(folder):
    assert tiny_clips.prepare(folder, COUNTS) == {"clips-train": 40, "clips-dev": 4, "clips-test": 6}
    rows = {part: list(iterate_manifest(folder / f"clips-{part}.jsonl")) for part in COUNTS}
    pairs = {part: {row["response"] for row in rows[part]} for part in rows}
    assert not pairs["train"] & pairs["test"] and not pairs["dev"] & (pairs["train"] | pairs["test"])
    shown = Counter(row["response"][0] for row in rows["train"])  # of 马 there are two, as six are in the test
    assert len(shown) == 10 and max(shown.values()) <= 5 and sum(count >= 4 for count in shown.values()) == 9
    assert all(response[1:] in MOTIONS and response[0] != "星" for part in pairs.values() for response in part)
    assert len({row["instruction"] for row in rows["train"]}) > 2
    assert {row["instruction"] for row in rows["dev"] + rows["test"]} == {ASK["video"][0]}
    for row in rows["train"][:3] + rows["test"]:
        with av.open(row["video"]) as film:
            track = film.streams.video[0]
            assert (track.frames, track.average_rate, track.width, track.height) == (16, 8, 112, 112)
        assert Path(row["video"]).stat().st_size < 20_000


def test_pictures_are_not_shared(folder):
    train, dev = ([row for row in iterate_manifest(folder / f"pictures-{part}.jsonl")] for part in ("train", "dev"))
    films = tiny_clips.assign(train, dev, {"train": 200, "dev": 8, "test": 8}, seed=0)
    ids = {part: {row["id"] for row, _ in films[part]} for part in films}
    assert len(films["train"]) == 200 and not ids["train"] & ids["test"] and ids["dev"] <= {row["id"] for row in dev}


def test_the_same_seed_gives_the_same_bytes(folder):
    def made(seed):
        tiny_clips.prepare(folder, {"train": 4, "dev": 1, "test": 1}, seed=seed)
        return [path.read_bytes() for path in (*sorted(folder.rglob("*.mp4")), *sorted(folder.glob("clips-*.jsonl")))]

    first = made(0)
    assert made(0) == first != made(1)


def test_without_pictures(folder, tmp_path):
    with pytest.raises(ManifestError, match="pictures-train.jsonl"):
        tiny_clips.prepare(tmp_path / "nowhere", COUNTS)
    with pytest.raises(XLLMError, match="too few pictures"):
        tiny_clips.assign([], [], COUNTS, seed=0)
