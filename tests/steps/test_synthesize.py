"""Texts spoken: one file for each different text, by a model or a program, and never by a shell."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from media_files import tone, write_audio
from pydantic import ValidationError
from small_models import small_vits

from xllm.errors import ConfigError
from xllm.media import load_audio
from xllm.steps.rows import Dropped, read_rows
from xllm.steps.run import run
from xllm.steps.synthesize import Synthesize

# A program that notes what it was told, and writes a tone.
PROGRAM = """
import json, shutil, sys
with open(sys.argv[1] + ".told", "a") as told:
    told.write(json.dumps(sys.argv[3:]) + "\\n")
if "!" in sys.argv[3]:
    sys.exit("no voice for this\\nsay something else")
if "nothing" not in sys.argv[3]:
    shutil.copy(sys.argv[1], sys.argv[2])
"""


@pytest.fixture
def command(tmp_path):
    write_audio(tmp_path / "tone.wav", tone(0.5, rate=8000), rate=8000, layout="stereo")
    (tmp_path / "say.py").write_text(PROGRAM)
    return f"'{sys.executable}' '{tmp_path / 'say.py'}' '{tmp_path / 'tone.wav'}' {{out}} {{text}} --voice={{voice}}"


def steps(tmp_path, **options):
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return Synthesize(folder=tmp_path / "speech", scratch=tmp_path / "scratch", **options)


def told(tmp_path):
    return [json.loads(line) for line in Path(f"{tmp_path / 'tone.wav'}.told").read_text().splitlines()]


def test_a_program_speaks_and_each_text_is_one_file(tmp_path, command):
    step = steps(tmp_path, command=command, voices=3)
    rows = [{"id": str(n), "response": f"天地{n % 4}", "image": "a.png"} for n in range(12)]
    made = step(rows)
    assert len({row["speech"] for row in made}) == len(told(tmp_path)) == 4
    assert all(row["duration"] == 0.5 and row["image"] == "a.png" for row in made)
    with wave.open(made[0]["speech"]) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
    assert np.abs(load_audio(made[0]["speech"]).numpy()).max() == pytest.approx(0.5, abs=0.02)
    assert step(rows) == made and len(told(tmp_path)) == 4, "what is spoken is not spoken again"
    assert {argument for _, argument in told(tmp_path)} <= {f"--voice={n}" for n in range(3)}
    assert not list((tmp_path / "scratch").iterdir())


def test_texts_are_arguments_and_nothing_more(tmp_path, command):
    texts = ["$(touch evil)", "`touch evil`; touch evil", "-rf '\"", "两行\n文字", "{out} {voice} {text}", "  空 "]
    made = steps(tmp_path, command=command)([{"id": "1", "response": text} for text in texts])
    assert all(isinstance(row, dict) for row in made)
    assert [text for text, _ in told(tmp_path)] == [text.strip() for text in texts]
    assert not list(tmp_path.rglob("evil")) and not Path("evil").exists()


def test_programs_that_fail_are_told_of(tmp_path, command):
    report = run(
        lambda: [{"id": str(n), "response": text} for n, text in enumerate(["天!", "nothing", "  ", "地", "a\0b"])],
        tmp_path / "x.jsonl",
        {},
        steps(tmp_path, command=command),
    )
    assert report.kept == 1 and report.dropped == {"no words": 1} and report.failed == {"not spoken": 3}
    details = [json.loads(line)["detail"] for line in (tmp_path / "x.dropped.jsonl").read_text().splitlines()]
    assert "say something else" in details[0] and "wrote no sound" in details[1] and "cannot be told" in details[3]
    slow = steps(tmp_path, command="sleep 60 {text} {out}".replace("{text} {out}", "{out} {text}"), timeout=0.2)
    assert [row.reason for row in slow([{"id": "1", "response": "5"}])] == ["not spoken"]
    with pytest.raises(ConfigError, match="cannot be run"):
        steps(tmp_path, command="no-such-program {text} {out}")([{"id": "1", "response": "天"}])


def test_silence_is_not_speech(tmp_path):
    write_audio(tmp_path / "silence.wav", np.zeros(8000, np.float32))
    step = steps(tmp_path, command=f"cp --suffix={{text}} '{tmp_path / 'silence.wav'}' {{out}}")
    (made,) = step([{"id": "1", "response": "天"}])
    assert made == Dropped("1", "not spoken", "silence", failed=True) and not (tmp_path / "speech").exists()


def test_either_a_model_or_a_command():
    for options in ({}, {"model": "m", "command": "say {text} {out}"}, {"command": "say {text}"}):
        with pytest.raises(ValidationError):
            Synthesize(**options)


def test_a_model_speaks_the_same_whatever_comes_before(tmp_path):
    model = str(small_vits(tmp_path / "vits"))
    rows = [{"id": str(n), "response": text} for n, text in enumerate(["天地人你", "大人是我", "小小小", "我他你天地"])]
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    forward = steps(tmp_path / "a", model=model, voices=4)(rows)
    backward = steps(tmp_path / "b", model=model, voices=4)(rows[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert Path(one["speech"]).read_bytes() == Path(other["speech"]).read_bytes()
        assert one["duration"] == len(load_audio(one["speech"])) / 16000 > 0.01
    assert len({Path(row["speech"]).read_bytes() for row in forward}) == 4
    other = steps(tmp_path / "a", model=model, voices=3)(rows)
    assert {row["speech"] for row in other} - {row["speech"] for row in forward}, "another voice is another file"


def test_through_run_paths_are_relative(tmp_path, command):
    run(lambda: [{"id": "1", "response": "天"}], tmp_path / "x.jsonl", {}, steps(tmp_path, command=command))
    assert json.loads((tmp_path / "x.jsonl").read_text())["speech"].startswith("speech/")
    assert len(load_audio(next(read_rows(tmp_path / "x.jsonl"))["speech"])) == 8000
