"""What fits is kept: pictures and texts alike, sides, aspect, seconds, characters; batches change nothing."""

import numpy as np
import pytest
from media_files import shades, tone, write_audio, write_film
from PIL import Image
from small_models import small_clip
from transformers import ChineseCLIPModel

from xllm.errors import ConfigError
from xllm.steps.filter import Filter, unique_key
from xllm.steps.rows import Dropped
from xllm.steps.run import run


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(small_clip(tmp_path_factory.mktemp("models") / "clip"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Thirty rows with pictures of noise and different sizes."""
    folder, noise = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    rows = []
    for number in range(30):
        path = folder / f"{number}.png"
        Image.fromarray(noise.integers(0, 255, (16 + number, 24, 3), dtype=np.uint8)).save(path)
        rows.append({"id": str(number), "image": [str(path)], "response": "天地人你我"[number % 5] * (number % 3 + 1)})
    return rows


def similarity(made):
    return [row["similarity"] for row in made]


def dropped(step, row):
    (made,) = step([row])
    return (made.reason, made.failed) if isinstance(made, Dropped) else None


def test_batches_and_chunks_change_nothing(clip, pictures, monkeypatch, tmp_path):
    sizes, forward = [], ChineseCLIPModel.forward

    def counted(self, input_ids, **more):
        sizes.append(len(input_ids))
        return forward(self, input_ids, **more)

    monkeypatch.setattr(ChineseCLIPModel, "forward", counted)
    alone = similarity(Filter(clip=clip, min_similarity=-1, batch_size=1)(pictures))
    assert sizes == [1] * 30
    sizes.clear()
    together = similarity(Filter(clip=clip, min_similarity=-1, batch_size=16)(pictures))
    assert sizes == [16, 14] and together == pytest.approx(alone, abs=2e-4)
    assert len(set(alone)) > 20, "the model looks at both"
    step = Filter(clip=clip, min_similarity=-1, batch_size=16)
    run(lambda: pictures, tmp_path / "a.jsonl", {}, step, chunk=16)
    run(lambda: pictures, tmp_path / "b.jsonl", {}, step, chunk=32)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_what_is_not_alike_is_dropped(clip, pictures):
    alone = similarity(Filter(clip=clip, min_similarity=-1)(pictures))
    made = Filter(clip=clip, min_similarity=0.3)(pictures)
    for row, cosine in zip(made, alone, strict=True):
        if cosine >= 0.3:
            assert row["similarity"] == cosine
        else:
            assert (row.reason, row.detail, row.failed) == ("dissimilar", str(cosine), False)
    assert 0 < sum(isinstance(row, Dropped) for row in made) < 30


def test_clip_reads_english(tmp_path, pictures):
    step = Filter(clip=str(small_clip(tmp_path / "clip", chinese=False)), min_similarity=-1, text="caption")
    made = step([row | {"caption": "abcdefg"[number % 7]} for number, row in enumerate(pictures)])
    assert len(set(similarity(made))) > 20


def test_a_damaged_picture_fails_alone_and_no_picture_passes(clip, pictures, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG nothing")
    bad = {"id": "bad", "image": str(tmp_path / "bad.png"), "response": "天"}
    none = {"id": "none", "response": "天"}
    made = Filter(clip=clip, min_similarity=-1)([pictures[0], bad, none, pictures[1]])
    assert made[1].reason == "damaged" and made[1].failed and made[2] == none
    assert similarity([made[0], made[3]]) == similarity(Filter(clip=clip, min_similarity=-1)(pictures[:2]))
    assert [row.reason for row in Filter(clip=clip)([bad])] == ["damaged"]
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Filter(clip=str(tmp_path))(pictures)


def test_sides_and_aspect(tmp_path):
    for name, size in (("a", (224, 300)), ("b", (223, 400)), ("c", (230, 691)), ("d", (10000, 1))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    step = Filter(min_side=224, max_aspect=3)
    by_name = {n: dropped(step, {"id": n, "image": str(tmp_path / f"{n}.png")}) for n in "abcd"}
    assert by_name == {"a": None, "b": ("side too small", False), "c": ("too elongated", False), "d": by_name["b"]}
    assert dropped(step, {"id": "e", "image": str(tmp_path / "none.png")}) == ("damaged", True)
    assert dropped(Filter(max_aspect=3), {"id": "d", "image": str(tmp_path / "d.png")}) == ("too elongated", False)


def test_seconds_and_characters(tmp_path):
    wav = str(write_audio(tmp_path / "a.wav", tone(1.5)))
    film = str(write_film(tmp_path / "a.mp4", shades(20)))  # two seconds
    step = Filter(min_seconds=1.0, max_seconds=1.8, max_characters=3)
    assert dropped(step, {"id": "1", "speech": wav, "response": "天地人"}) is None
    assert dropped(step, {"id": "1", "speech": wav, "response": "天地人你"}) == ("too many characters", False)
    assert dropped(step, {"id": "1", "speech": wav, "duration": 0.5}) == ("too few seconds", False)
    assert dropped(step, {"id": "1", "video": film}) == ("too many seconds", False)
    assert dropped(Filter(max_seconds=2.5), {"id": "1", "video": film}) is None
    assert dropped(step, {"id": "1", "video": wav}) == ("damaged", True)
    assert dropped(Filter(min_characters=1), {"id": "1"}) == ("too few characters", False)
    assert dropped(Filter(), {"id": "1", "speech": "nowhere.wav"}) is None, "nothing asked, nothing opened"


def test_keys_of_equal_rows():
    key = unique_key(["image", "response"])
    assert key({"image": "a", "response": "b"}) == key({"image": "a", "response": "b", "id": "2"})
    assert key({"image": "a", "response": "b"}) != key({"image": "ab"}) and key({"caption": "c"}) is None
