"""Spoken questions and noisy sentences: jobs keep the test voices apart, manifests say what was said and shown."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xllm.corpora import tiny_spoken
from xllm.corpora.tiny_instructions import ASK
from xllm.errors import XLLMError
from xllm.manifest import iterate_manifest
from xllm.media import load_audio
from xllm.text import normalize

EXAMPLE = next((Path(__file__).parents[2] / "examples").glob("*.opus"))
CONCEPTS = [("熊猫", "动物"), ("苹果", "水果"), ("银河", None)]


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def corpus(tmp_path):
    """Pictures of three things, and a training sentence that names one."""
    (tmp_path / "pictures").mkdir()
    for part, style in (("train", "noto"), ("dev", "twemoji"), ("test-style", "openmoji")):
        rows = []
        for name, _ in CONCEPTS:
            Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / f"{style}-{name}.png")
            rows.append({"id": f"{style}/{name}", "image": f"pictures/{style}-{name}.png", "response": name})
        write_rows(tmp_path / f"pictures-{part}.jsonl", rows)
    shutil.copy(EXAMPLE, tmp_path / "a.opus")
    said = {"speech": "a.opus", "duration": 1.0, "reading": "wo3 ai4 xiong2 mao1"}
    write_rows(tmp_path / "train.jsonl", [{"id": "a", "response": "我爱熊猫。", **said}])
    write_rows(tmp_path / "text.jsonl", [{"id": "t", "response": "熊猫来了", "reading": "xiong2 mao1 lai2 le5"}])
    write_rows(tmp_path / "stretches.jsonl", [{"id": "s", "response": "没有人", "reading": "mei2 you3 ren2"}])
    return tmp_path


@pytest.fixture
def spoken(corpus, tmp_path_factory):
    """Every job spoken, by the same voice."""
    tiny_spoken.prepare(corpus, CONCEPTS)
    folder = tmp_path_factory.mktemp("spoken")
    samples = load_audio(EXAMPLE).numpy()[:8000]
    for line in (corpus / "spoken-jobs.jsonl").read_text(encoding="utf-8").splitlines():
        tiny_spoken.write_wav(folder / f"{json.loads(line)['id']}.wav", samples)
    return folder


def test_test_jobs_alone_have_test_voices_and_other_sentences():
    names = [f"熊{c}" for c in "一二三四五六七八九十"]
    jobs = tiny_spoken.jobs(names, names, ["动物"])
    assert jobs == tiny_spoken.jobs(names, names, ["动物"]) and len({job["id"] for job in jobs}) == len(jobs)
    texts = {"test": set(), "train": set()}
    for job in jobs:
        what, part, _ = job["id"].split("-", 2)
        assert set(job["voice"]) <= set(tiny_spoken.TEST_VOICES) or part != "test"
        assert not set(job["voice"]) & set(tiny_spoken.TEST_VOICES) or part == "test"
        if what == "say":
            texts["test" if part == "test" else "train"].add(job["text"])
    assert texts["test"] and not texts["test"] & texts["train"]


def test_noise_is_as_loud_as_the_speech_and_has_its_spectrum():
    draw = np.random.default_rng(0)
    speech = np.convolve(draw.standard_normal(16001), np.ones(8) / 8, "same") * 0.1
    mixed = tiny_spoken.noisy(speech, np.random.default_rng(1))
    noise = mixed - speech
    assert np.isclose(np.mean(noise**2), np.mean(speech**2), rtol=1e-2)
    loud = [np.abs(np.fft.rfft(x)) ** 2 for x in (speech, noise)]
    assert np.isclose(loud[0][:1000].sum(), loud[1][:1000].sum(), rtol=1e-2)
    assert abs(np.corrcoef(speech, noise)[0, 1]) < 0.05
    assert np.array_equal(mixed, tiny_spoken.noisy(speech, np.random.default_rng(1)))
    assert np.abs(tiny_spoken.noisy(speech * 100, draw)).max() <= 0.95
    assert np.isfinite(tiny_spoken.noisy(np.zeros(100), draw)).all()


def test_heard_sentences_name_what_their_picture_shows(corpus, spoken):
    counts = tiny_spoken.prepare(corpus, CONCEPTS, spoken=spoken)
    for part, style in (("train", "noto"), ("dev", "noto"), ("test", "openmoji")):
        rows = list(iterate_manifest(corpus / f"heard-{part}.jsonl"))
        assert len(rows) == counts[f"heard-{part}"] > 0 and len({row["id"] for row in rows}) == len(rows)
        for row in rows:
            assert Path(row["speech"]).parent.name == "noisy" and row["duration"] > 0.4
            assert len(row["reading"].split()) == len(normalize(row["response"]))
            if row["image"]:
                folder, _, name = Path(row["image"][0]).stem.partition("-")
                assert folder == style and name in row["response"]
        assert any(row["image"] is None for row in rows) == (part == "train")
    train = list(iterate_manifest(corpus / "heard-train.jsonl"))
    assert "我爱熊猫。" in {row["response"] for row in train} and any(row["caption"] for row in train)


def test_unspoken_sentences_come_with_a_picture_of_what_they_name(corpus, spoken):
    tiny_spoken.prepare(corpus, CONCEPTS, spoken=spoken)
    (row,) = iterate_manifest(corpus / "read-train.jsonl")
    assert row["response"] == "熊猫来了" and row["reading"] == "xiong2 mao1 lai2 le5" and row["speech"] is None
    assert [Path(path).name for path in row["image"]] == ["noto-熊猫.png"] and row["caption"] == "图中是熊猫"


def test_a_spoken_question_has_its_twin_in_writing(corpus, spoken):
    tiny_spoken.prepare(corpus, CONCEPTS, spoken=spoken)
    heard, typed = (list(iterate_manifest(corpus / f"{name}.jsonl")) for name in ("asked-test", "asked-test-typed"))
    jobs = {job["id"]: job for job in map(json.loads, (corpus / "spoken-jobs.jsonl").open(encoding="utf-8"))}
    assert len(heard) == len(typed) == 3
    for spoken_row, typed_row in zip(heard, typed, strict=True):
        assert spoken_row["image"] == typed_row["image"] and spoken_row["response"] == typed_row["response"]
        job = jobs[Path(spoken_row["speech"]).stem]
        assert job["id"].startswith("ask-test-") and job["text"] == typed_row["instruction"]
        assert spoken_row["instruction"] in ASK["speech"] and typed_row["speech"] is None
        kind = dict(CONCEPTS)[typed_row["response"]]
        assert typed_row["instruction"] in tiny_spoken.questions([kind] if kind else [])
    whether = [r for r in iterate_manifest(corpus / "asked-train.jsonl") if r["id"].endswith("whether")]
    assert whether and all(
        (r["response"] == "有") == (Path(r["image"][0]).stem[5:] in r["instruction"]) for r in whether
    )


def test_without_speech_or_pictures_it_says_what_to_do(corpus, tmp_path):
    with pytest.raises(XLLMError, match="speak spoken-jobs.jsonl first"):
        tiny_spoken.prepare(corpus, CONCEPTS, spoken=tmp_path / "nothing")
    (corpus / "pictures-dev.jsonl").unlink()
    with pytest.raises(XLLMError, match="pictures-dev"):
        tiny_spoken.prepare(corpus, CONCEPTS)
