"""`xllm asr` from inputs to files and exit codes, on random weights; and every kind of bad input."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from media_files import tone, write_audio, write_silent_video, write_tracks

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.opus"))


@pytest.fixture
def sound(tmp_path):
    """Two files in two folders with the same name, and a third."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "b").mkdir()
    (tmp_path / "in" / "a" / "x.opus").write_bytes(EXAMPLES[0].read_bytes())
    (tmp_path / "in" / "b" / "x.opus").write_bytes(EXAMPLES[1].read_bytes())
    write_audio(tmp_path / "in" / "quiet.wav", np.zeros(16000, np.float32))
    return tmp_path / "in"


def test_folder_to_jsonl_in_order_with_times(xllm, small_model, sound):
    code, out, err = xllm("asr", sound, "--model", small_model, "--format", "jsonl", "--device", "cpu")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and err == ""
    assert [Path(row["path"]).relative_to(sound).as_posix() for row in rows] == ["a/x.opus", "b/x.opus", "quiet.wav"]
    assert rows[2]["text"] == "" and rows[2]["segments"] == []
    for row in rows[:2]:
        assert row["engine"] == "xllm" and row["duration"] > 0.5
        for segment in row["segments"]:
            tokens = segment["tokens"]
            assert "".join(token["text"] for token in tokens) == segment["text"]
            assert all(segment["start"] <= t["start"] <= t["end"] <= segment["end"] for t in tokens)
            assert all(0 <= t["score"] <= 1 for t in tokens)
            assert [t["start"] for t in tokens] == sorted(t["start"] for t in tokens)


def test_one_input_prints_text_and_several_print_paths(xllm, small_model, sound):
    one = xllm("asr", sound / "quiet.wav", "--model", small_model, "--engine", "cif")
    assert one == (0, "\n", "")
    code, out, _ = xllm("asr", sound / "quiet.wav", sound / "quiet.wav", "--model", small_model)
    assert code == 0 and out == f"{sound / 'quiet.wav'}\t\n" * 2


def test_batch_size_does_not_change_results(xllm, small_model, sound):
    results = [
        xllm("asr", sound, "--model", small_model, "-f", "jsonl", "--batch-size", n, "--engine", "cif")[1]
        for n in (1, 5)
    ]
    texts = [[json.loads(line)["text"] for line in result.splitlines()] for result in results]
    assert texts[0] == texts[1]


def test_output_folder_mirrors_inputs_and_resumes(xllm, small_model, sound, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = xllm("asr", sound, "--model", small_model, "-o", out, "-f", "srt")
    assert code == 0 and printed == ""
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.srt"))
    assert written == ["a/x.opus.srt", "b/x.opus.srt", "quiet.wav.srt"]
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.srt")}
    (sound / "quiet.wav").unlink()
    write_audio(sound / "quiet.wav", np.zeros(8000, np.float32))
    code, _, err = xllm("asr", sound, "--model", small_model, "-o", out, "-f", "srt", "--resume")
    assert code == 0 and "2 already done" in err
    changed = [p.name for p, time in before.items() if p.stat().st_mtime_ns != time]
    assert changed == ["quiet.wav.srt"]
    _, _, err = xllm("asr", sound, "--model", small_model, "-o", out, "-f", "srt", "--resume", "--engine", "cif")
    assert "0 already done" in err, "other settings are other results"


def test_manifest_glob_and_stdin(xllm, small_model, sound, tmp_path, monkeypatch):
    lines = [
        json.dumps({"id": "one", "speech": "a/x.opus"}),
        "{broken",
        json.dumps({"id": "none"}),
        json.dumps({"id": "two", "speech": "quiet.wav"}),
    ]
    (sound / "m.jsonl").write_text("\n".join(lines))
    code, out, err = xllm("asr", sound / "m.jsonl", "--model", small_model, "-f", "jsonl")
    assert code == 1
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["one", "two"]
    assert f"{sound / 'm.jsonl'}:2: not valid JSON" in err and "sample 'none' has no 'speech'" in err
    code, out, _ = xllm("asr", f"{sound}/**/x.opus", "--model", small_model, "-f", "jsonl")
    assert code == 0 and len(out.splitlines()) == 2
    data = type("Stdin", (), {"buffer": io.BytesIO((sound / "quiet.wav").read_bytes())})()
    monkeypatch.setattr(sys, "stdin", data)
    assert xllm("asr", "-", "--model", small_model) == (0, "\n", "")


def test_results_are_of_these_weights(xllm, small_model, small_system, sound, tmp_path):
    from xllm import checkpoint

    def already_done(model):
        done = xllm("asr", sound / "quiet.wav", "--model", model, "-o", tmp_path / "out", "--resume")
        return "1 already done" in done[2]

    assert not already_done(small_model)
    small_model.rename(tmp_path / "moved")
    assert already_done(tmp_path / "moved")
    parts = checkpoint.tensors(small_system, ("recognizer", "speech", "llm"))
    next(iter(parts.values())).add_(1)
    checkpoint.save(tmp_path / "moved", "small", small_system.config, parts)
    assert not already_done(tmp_path / "moved")


def test_an_output_that_cannot_be_written_costs_one_input(xllm, small_model, sound, tmp_path, monkeypatch):
    from xllm_cli import outputs

    write = outputs.write_atomic

    def full(path, text):
        if path.name == "quiet.wav.txt":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, text)

    monkeypatch.setattr(outputs, "write_atomic", full)
    code, _, err = xllm("asr", sound, "--model", small_model, "-o", tmp_path / "out")
    assert code == 1 and sorted(path.name for path in (tmp_path / "out").rglob("*.txt")) == ["x.opus.txt"] * 2
    lost = f"error: {sound / 'quiet.wav'}: its result cannot be written: {tmp_path / 'out' / 'quiet.wav.txt'}: "
    assert err == f"{lost}No space left on device\n1 of 3 inputs failed\n"


def test_names_are_shown_on_one_line(xllm, small_model, sound):
    odd = sound / "a\nerror: \x1b]0;fake\udce9.wav"
    (sound / "quiet.wav").rename(odd)
    shown = r"a\nerror: \x1b]0;fake\udce9.wav"
    code, out, err = xllm("asr", odd, odd, f"{odd}x", "--model", small_model)
    assert (code, out) == (1, f"{sound}/{shown}\t\n" * 2)
    assert err == f"error: {sound}/{shown}x: no such file\n1 of 3 inputs failed\n"
    code, out, _ = xllm("asr", odd, "--model", small_model, "-f", "jsonl")
    assert code == 0 and json.loads(out)["path"] == str(odd) and out.count("\n") == 1 and "\x1b" not in out


def test_a_pipe_is_transcribed_like_its_file(xllm, small_model, sound, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=(EXAMPLES[0].read_bytes(),))
    writer.start()
    options = ["--model", small_model, "--engine", "cif"]
    assert xllm("asr", tmp_path / "pipe", *options) == xllm("asr", EXAMPLES[0], *options)
    writer.join()


def test_a_terminated_run_leaves_nothing_unfinished(small_model, sound, tmp_path):
    """SIGTERM while a result is being written; what was done before is kept."""
    code = (
        "import os, signal; from xllm import files; from xllm_cli import main, outputs\n"
        "replace = os.replace\n"
        "def kill(temporary, path):\n"
        "    if 'quiet' in str(path): os.kill(os.getpid(), signal.SIGTERM)\n"
        "    replace(temporary, path)\n"
        "files.os.replace = kill\n"
        "main.main()"
    )
    command = [sys.executable, "-c", code, "asr", sound, "--model", small_model, "-o", tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"x.opus.txt", ".xllm-asr.jsonl"}


def test_splitting_over_processes_keeps_order_and_results(small_model, sound):
    from xllm.errors import MediaError
    from xllm.model import XLLM
    from xllm.spool import spool
    from xllm.transcribe import Source, devices_run, transcribe

    paths = [*sorted(map(str, sound.rglob("*.opus"))), str(sound / "none.wav"), str(sound / "quiet.wav")]
    sources = [Source(path, path) for path in paths]
    with EXAMPLES[0].open("rb") as file:
        sources.append(Source("-", "-", spool(file, "<stdin>")))
    split = [outcome for _, outcome in devices_run(sources, str(small_model), ["cpu", "cpu"], "cif", 2)]
    one = [outcome for _, outcome in transcribe(sources, XLLM.from_pretrained(small_model), "cif", 2)]
    assert [type(o) for o in split] == [type(o) for o in one]
    assert isinstance(split[2], MediaError)
    assert [o.text for o in split if not isinstance(o, MediaError)] == [
        o.text for o in one if not isinstance(o, MediaError)
    ]


def test_reading_ahead_changes_nothing(small_model, sound):
    """As on a GPU: the next inputs are read by a thread, also those that cannot be."""
    from types import SimpleNamespace

    from xllm.model import XLLM
    from xllm.transcribe import Source, transcribe

    model = XLLM.from_pretrained(small_model)
    elsewhere = SimpleNamespace(device=torch.device("meta"), transcribe=model.transcribe)
    paths = [*sorted(map(str, sound.rglob("*.opus"))), str(sound / "none.wav"), *sorted(map(str, sound.rglob("*.wav")))]
    here, there = (
        [(source.path, str(outcome)) for source, outcome in transcribe([Source(p, p) for p in paths], one, "xllm", 1)]
        for one in (model, elsewhere)
    )
    assert here == there and [path for path, _ in here] == paths


def broken_inputs(folder):
    (folder / "empty").mkdir()
    (folder / "text.wav").write_text("这不是声音" * 50)
    whole = write_audio(folder / "whole.mp3", tone(3.0)).read_bytes()
    (folder / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    write_audio(folder / "zero.wav", tone(0))
    write_audio(folder / "nan.wav", np.full(1600, np.nan, np.float32), codec="pcm_f32le")
    write_audio(folder / "phone.wav", tone(1.0, 8000), 8000, "stereo")
    write_audio(folder / "click.wav", tone(0.01))
    write_audio(folder / "quiet.wav", np.zeros(16000, np.float32))
    write_silent_video(folder / "mute.mp4")


@pytest.mark.parametrize(
    "name, message",
    [
        ("none.wav", "no such file"),
        ("empty", "no audio or video files"),
        ("text.wav", "not a media file"),
        ("zero.wav", "no audio samples"),
        ("nan.wav", "not numbers"),
        ("mute.mp4", "no audio track"),
        ("no*match.wav", "nothing matches"),
    ],
)
def test_a_bad_input_is_one_line_and_the_others_complete(xllm, small_model, tmp_path, name, message):
    broken_inputs(tmp_path)
    code, out, err = xllm(
        "asr", tmp_path / "quiet.wav", tmp_path / name, tmp_path / "quiet.wav", "--model", small_model
    )
    lines = err.splitlines()
    assert code == 1 and "Traceback" not in err
    assert out == f"{tmp_path / 'quiet.wav'}\t\n" * 2
    assert len(lines) == 2 and message in lines[0] and name in lines[0]
    assert lines[1] == "1 of 3 inputs failed"


def test_a_damaged_input_is_written_said_and_not_done(xllm, small_model, tmp_path):
    whole = write_audio(tmp_path / "a.mp3", tone(4.0))
    (tmp_path / "cut.mp3").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    inputs = ["asr", whole, tmp_path / "cut.mp3", "--model", small_model, "-f", "jsonl"]
    code, out, err = xllm(*inputs)
    lost = [json.loads(line)["lost"] for line in out.splitlines()]
    assert code == 1 and lost[0] == [] and lost[1] == [[pytest.approx(2.0, abs=0.2), pytest.approx(4.0, abs=0.1)]]
    first, last = err.splitlines()
    assert "cut.mp3: damaged: 2." in first or "cut.mp3: damaged: 1.9" in first
    assert first.endswith("the rest is written") and last == "1 of 2 inputs failed"
    for done in (0, 1):
        code, _, err = xllm(*inputs, "-o", tmp_path / "out", "--resume")
        assert code == 1 and err.startswith(f"{done} already done\n") and "cut.mp3: damaged" in err
        assert (tmp_path / "out" / "cut.mp3.jsonl").exists()


def test_what_is_hardly_speech_is_left_out_and_said(xllm, small_model, sound):
    """Below the system's floor there is no text by either engine, and standard error says where."""
    card = small_model / "config.yaml"
    inputs = ["asr", sound / "a" / "x.opus", sound / "quiet.wav", "--model", small_model, "-f", "jsonl"]
    heard = [json.loads(line) for line in xllm(*inputs, "--engine", "cif")[1].splitlines()]
    assert heard[0]["text"] and heard[0]["unclear"] == []
    card.write_text(card.read_text().replace("floor: 0.0", "floor: 0.999"), encoding="utf-8")
    stretches = [[segment["start"], segment["end"]] for segment in heard[0]["segments"]]
    for engine in ("cif", "xllm"):
        code, out, err = xllm(*inputs, "--engine", engine)
        loud, quiet = map(json.loads, out.splitlines())
        assert code == 0 and loud["text"] == quiet["text"] == "" and loud["segments"] == []
        assert loud["unclear"] == stretches and quiet["unclear"] == []
        (line,) = err.splitlines()
        assert "a/x.opus: no clear speech at" in line and f"{stretches[0][0]:.2f}-{stretches[0][1]:.2f}" in line


def test_a_track_is_chosen(xllm, small_model, tmp_path):
    path = write_tracks(tmp_path / "a.mp4", [(tone(1.0), 0.0)], [(tone(3.0), 0.0)], codec="aac")
    lengths = []
    for number in (1, 2):
        code, out, _ = xllm("asr", path, "--model", small_model, "-f", "jsonl", "--track", number)
        lengths.append(json.loads(out)["duration"])
    assert lengths == pytest.approx([1.0, 3.0], abs=0.1)
    code, _, err = xllm("asr", path, "--model", small_model, "--track", 3)
    assert code == 1 and "a.mp4: has no audio track 3, only 2" in err
    assert xllm("asr", path, "--track", 0)[0] == 2
    out = tmp_path / "out"
    assert xllm("asr", path, "--model", small_model, "-o", out, "--resume")[2] == "0 already done\n"
    assert xllm("asr", path, "--model", small_model, "-o", out, "--resume", "--track", 2)[2] == "0 already done\n"


@pytest.mark.parametrize("name", ["phone.wav", "click.wav", "quiet.wav"])
def test_odd_but_usable_inputs_succeed(xllm, small_model, tmp_path, name):
    broken_inputs(tmp_path)
    code, out, _ = xllm("asr", tmp_path / name, "--model", small_model)
    assert code == 0 and out.endswith("\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--device", "cuda:1"], "no CUDA GPU"),
        (["--gpus", "0,1"], "no CUDA GPU"),
        (["--gpus", "a"], "give numbers"),
        (["--gpus", "all"], "no CUDA GPU"),
        (["--gpus", "0", "--device", "cpu"], "leave out --device"),
        (["--model", "nowhere"], "neither a folder nor a model"),
        (["--resume"], "--resume needs -o"),
        (["--engine", "whisper"], "whisper"),
        (["--batch-size", "0"], "batch-size"),
    ],
)
def test_wrong_usage_is_exit_code_two(xllm, small_model, tmp_path, monkeypatch, arguments, message):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write_audio(tmp_path / "quiet.wav", np.zeros(1600, np.float32))
    defaults = [] if "--model" in arguments else ["--model", small_model]
    code, out, err = xllm("asr", tmp_path / "quiet.wav", *defaults, *arguments)
    assert code == 2 and out == "" and message in err and "Traceback" not in err


def test_an_unwritable_output_folder_is_told_before_work(xllm, small_model, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = xllm("asr", tmp_path / "any.wav", "--model", small_model, "-o", tmp_path / "file" / "sub")
    assert code == 2 and err.count("\n") == 1 and "cannot write there" in err


def test_subtitles_of_several_inputs_need_a_folder(xllm, small_model, sound):
    code, _, err = xllm("asr", sound, "--model", small_model, "-f", "vtt")
    assert code == 2 and "-o" in err


def test_debug_shows_the_traceback(xllm, small_model):
    from xllm.errors import ConfigError

    with pytest.raises(ConfigError):
        xllm("asr", "x.wav", "--model", "nowhere", "--debug")


def test_a_closed_pipe_is_quiet(small_model, sound):
    command = [
        sys.executable,
        "-c",
        "from xllm_cli.main import main; main()",
        "asr",
        *[str(sound / "quiet.wav")] * 40,
        "--model",
        str(small_model),
        "--quiet",
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    process.stdout.readline()
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()
