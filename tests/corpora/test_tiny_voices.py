"""More voices: jobs depend on their rows alone, timbre and prosody are joined, what is spoken becomes a manifest."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from xllm.corpora import tiny_voices
from xllm.errors import XLLMError
from xllm.manifest import iterate_manifest

EXAMPLE = next((Path(__file__).parents[2] / "examples").glob("*.opus"))


def row(name, text="你好吗", reading="ni3 hao3 ma5"):
    return {"id": name, "response": text, "reading": reading}


def test_jobs_use_no_test_voice_and_depend_on_their_row():
    sentences = [row(f"{i}-train") for i in range(200)]
    text = [row("chat-1"), row("idiom-1"), row("chat-2", "好", "hao3")]
    jobs = tiny_voices.voice_jobs(sentences, text, [row("words-1")])
    assert {job["id"] for job in jobs} == {*(f"{i}-train-t" for i in range(200)), "chat-1-t", "words-1-t"}
    parts = {part for job in jobs for name in job["voice"] for part in name.split("+")}
    assert parts <= {*tiny_voices.MANDARIN, *tiny_voices.TIMBRES}
    assert not parts & {"zf_xiaoyi", "zm_yunyang"} and len(parts) > 40
    fewer = {job["id"]: job for job in tiny_voices.voice_jobs(sentences[:50], [], [])}
    assert all(fewer[job["id"]] == job for job in jobs if job["id"] in fewer)


def test_a_joined_voice_has_the_timbre_of_one_and_the_prosody_of_the_other(tmp_path):
    for number, name in enumerate(("zf_xiaoni", "am_adam")):
        np.full((3, 256), number, "<f4").tofile(tmp_path / f"{name}.bin")
    jobs = [{"voice": {"zf_xiaoni+am_adam": 0.4, "zf_xiaoni": 0.6}}]
    assert tiny_voices.mix_voices(tmp_path, jobs) == 1
    joined = np.fromfile(tmp_path / "zf_xiaoni+am_adam.bin", "<f4").reshape(3, 256)
    assert (joined[:, :128] == 1).all() and (joined[:, 128:] == 0).all()
    with pytest.raises(XLLMError, match="am_echo.bin"):
        tiny_voices.mix_voices(tmp_path, [{"voice": {"zf_xiaoni+am_echo": 1.0}}])


def test_what_is_spoken_and_readable_becomes_a_manifest(tmp_path):
    for name in ("train", "text", "words"):
        rows = [row(f"{i}-train") for i in range(3)] if name == "train" else []
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "wav").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "wav" / "0-train-t.wav")
    (tmp_path / "wav" / "1-train-t.wav").write_text("broken")
    counts = tiny_voices.prepare(tmp_path, speech=tmp_path / "wav")
    assert counts == {"voice jobs": 3, "spoken": 1}
    (sample,) = iterate_manifest(tmp_path / "voices.jsonl")
    assert sample["reading"] == "ni3 hao3 ma5" and Path(sample["speech"]).exists() and sample["duration"] > 1
