"""The demonstration's data: the same each time, right as said, heard as speech, and nothing of the test in training."""

import random

import numpy as np
import pytest
from PIL import Image

from xllm.corpora.demo import CHARACTERS, HELD_OUT, PAIRS, name, prepare
from xllm.corpora.demo_drawings import COLOURS, MOTIONS, SHAPES, Scene
from xllm.corpora.demo_voice import FINALS, INITIALS, TONES
from xllm.films import load_frames
from xllm.manifest import iterate_manifest
from xllm.media import load_audio
from xllm.segment import find_speech


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    prepare(folder, share=0.01)
    return folder


def rows(world, manifest):
    return list(iterate_manifest(world / f"{manifest}.jsonl"))


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_makes_the_same_files(world, tmp_path):
    prepare(tmp_path / "again", share=0.01)
    assert contents(tmp_path / "again") == contents(world)
    prepare(tmp_path / "other", share=0.01, seed=1)
    other = contents(tmp_path / "other")
    assert sum(other[path] == data for path, data in contents(world).items() if path.suffix == ".wav") == 0


def test_each_colour_and_each_shape_is_held_out_once():
    assert sorted(c for c, _ in HELD_OUT) == sorted(COLOURS) and sorted(s for _, s in HELD_OUT) == sorted(SHAPES)


def test_held_out_things_are_nowhere_in_training(world):
    kept = {name(*pair) for pair in HELD_OUT}
    for kind in ("images", "names", "videos"):
        for split in ("train", "dev"):
            assert not any(thing in row["response"] for row in rows(world, f"{kind}-{split}") for thing in kept)
        if kind != "names":
            asked = rows(world, f"{kind}-held-out")
            assert all(any(part in r["response"] for thing in kept for part in thing.split("的")) for r in asked)


def test_speech_is_speech_to_voice_activity(world):
    for row in rows(world, "speech-train"):
        wave = load_audio(row["speech"])
        (span,) = find_speech([wave])[0]
        assert span.end - span.start > 0.1 * len(row["response"])
        assert len(wave) / 16000 == pytest.approx(row["duration"], abs=1e-3)


def test_every_sound_can_be_told_from_every_other():
    assert len({tuple(sounds) for sounds in FINALS.values()}) == len(FINALS)
    assert len(set(INITIALS.values())) == len(INITIALS) and len(set(TONES.values())) == len(TONES)


def middle(image):
    """Of what stands out from the ground, as shares of width and height."""
    pixels = np.asarray(image.convert("RGB"), float)
    far = np.abs(pixels - np.median(pixels[:3].reshape(-1, 3), axis=0)).max(-1) > 60
    down, right = np.nonzero(far)
    return right.mean() / pixels.shape[1], down.mean() / pixels.shape[0]


def test_things_are_where_they_are_put_and_of_their_colour():
    for colour, shape in PAIRS:
        scene = Scene(colour, shape, random.Random(1))
        right, down = middle(scene.at(1, 0))
        assert right > 0.55 and down < 0.45, (colour, shape)
    red, _, blue = np.asarray(Scene("红色", "方形", random.Random(2)).at(0.5, 0.5), int)[32, 32]
    assert red > blue + 80


def test_videos_move_as_their_responses_say(world):
    for row in [*rows(world, "videos-train"), *rows(world, "videos-held-out")]:
        frames = load_frames(row["video"], 4)
        first, last = (middle(Image.fromarray(f.permute(1, 2, 0).numpy())) for f in (frames[0], frames[-1]))
        motion = next(m for m in MOTIONS if row["response"].endswith(m))
        moved = np.sign(np.round(np.subtract(last, first), 1))
        assert tuple(moved) == MOTIONS[motion], row["id"]


def test_all_text_is_in_the_tokenizer(world):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / "tokenizer")
    for row in rows(world, "text-train"):
        ids = tokenizer(row["response"], add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == row["response"]
    units = (world / "tokenizer" / "units.txt").read_text().split()
    assert set("".join(units)) == set(CHARACTERS)
