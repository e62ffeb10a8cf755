"""`xllm masr` and `xllm eval masr`: pictures find their way, from options and manifests, and their absence is said."""

import json
import logging
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.opus"))


def manifest(folder, **row):
    rows = [{"id": p.stem, "speech": str(p), "response": "天地人", "image": "red.png", **row} for p in EXAMPLES[:2]]
    (folder / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder / "m.jsonl"


@pytest.mark.parametrize("engine", ["cif", "xllm"])
def test_what_is_seen_matters(xllm, seeing, engine):
    def heard(command, *options):
        common = ["--model", seeing / "seeing", "--engine", engine, "-f", "jsonl", "--device", "cpu"]
        code, out, _ = xllm(command, EXAMPLES[0], *options, *common)
        assert code == 0
        # not the times: those are CIF's for both engines
        return [(t["text"], t["score"]) for segment in json.loads(out)["segments"] for t in segment["tokens"]]

    blind, red = heard("asr"), heard("masr", "--image", seeing / "red.png")
    assert blind != red != heard("masr", "--image", seeing / "blue.png")
    captioned = heard("masr", "--image", seeing / "red.png", "--caption", "天地")
    assert captioned != red != heard("masr", "--caption", "天地") != blind


def test_a_manifest_brings_its_own_pictures(xllm, seeing):
    common = ["--model", seeing / "seeing", "--engine", "cif", "-f", "jsonl"]
    code, out, _ = xllm("masr", manifest(seeing), *common, "--image", seeing / "blue.png")
    assert code == 0
    for line, example in zip(out.splitlines(), EXAMPLES, strict=False):
        alone = json.loads(xllm("masr", example, "--image", seeing / "red.png", *common)[1])
        assert json.loads(line)["segments"] == alone["segments"]


def test_resume_notices_another_picture(xllm, seeing):
    def run(picture):
        options = ["--image", seeing / picture, "--model", seeing / "seeing", "-o", seeing / "out", "--resume"]
        return xllm("masr", EXAMPLES[0], *options)[2]

    assert "0 already done" in run("red.png")
    assert "1 already done" in run("red.png")
    assert "0 already done" in run("blue.png")


def test_with_nothing_beside_speech_or_a_bad_picture(xllm, seeing):
    code, out, err = xllm("masr", EXAMPLES[0], "--model", seeing / "seeing")
    assert code == 1 and out == "" and "give --image or --caption" in err
    assert xllm("masr", EXAMPLES[0], "--model", seeing / "seeing", "--caption", " ")[0] == 1
    (seeing / "bad.png").write_text("not a picture")
    code, _, err = xllm("masr", EXAMPLES[0], "--image", seeing / "bad.png", "--model", seeing / "seeing")
    assert code == 1 and "bad.png" in err


def test_a_system_that_can_use_nothing_does_not_start(xllm, seeing, small_model):
    common = ["masr", *EXAMPLES[:2], "--model", small_model]
    for engine, given in (("xllm", "--image"), ("cif", "--image"), ("cif", "--caption")):
        value = seeing / "red.png" if given == "--image" else "天地"
        code, out, err = xllm(*common, "--engine", engine, given, value)
        assert code == 2 and out == "" and err.count("cannot be used") == 1 and "xllm asr" in err
    code, out, err = xllm(*common, "--caption", "天地", "--image", seeing / "red.png")
    assert code == 0 and len(out.splitlines()) == 2
    assert err.count("warning:") == 1 and "leaves out images: this system has no image interface" in err


def test_that_is_said_once_from_several_devices_too(small_model, seeing, caplog, monkeypatch):
    from xllm.errors import XLLMError
    from xllm.transcribe import Source, devices_run

    monkeypatch.setattr(logging.getLogger("xllm"), "propagate", True)
    pictured = {"pictures": (str(seeing / "red.png"),)}
    sources = [Source(str(p), str(p), caption="天地", **pictured) for p in EXAMPLES[:2]]
    outcomes = [outcome for _, outcome in devices_run(sources, str(small_model), ["cpu", "cpu"], "xllm", 2)]
    assert not any(isinstance(outcome, XLLMError) for outcome in outcomes)
    (message,) = {record.getMessage() for record in caplog.records}  # which the command line prints once
    assert "leaves out images" in message
    blind = [Source(str(p), str(p), **pictured) for p in EXAMPLES[:2]]
    with pytest.raises(XLLMError, match="images cannot be used"):
        list(devices_run(blind, str(small_model), ["cpu", "cpu"], "xllm", 2))


def test_eval_prints_speech_alone_beside_speech_and_picture(xllm, seeing):
    options = ["--model", seeing / "seeing", "--swap", "--json", "-q", "-o", seeing / "out"]
    code, out, _ = xllm("eval", "masr", manifest(seeing), *options)
    summary = json.loads(out)
    assert code == 0
    assert list(summary["engines"]) == [f"{e} {s}" for e in ("cif", "xllm") for s in ("S", "S+V", "S+wrong")]
    assert set(summary["differences"]) == {f"{e} {s} minus {e} S" for e in ("cif", "xllm") for s in ("S+V", "S+wrong")}
    assert summary["differences"]["cif S+wrong minus cif S"]["utterances"] == 2
    report = json.loads((seeing / "out" / "report.json").read_text())
    table = report["tables"]["As the paper's Table 4"]
    assert table[0][1:] == ["S", "S+V", "S+wrong"] and [row[0] for row in table[1:3]] == ["cif (ours)", "xllm (ours)"]
    assert all("-" in cell for row in table[1:3] for cell in row[1:]), "every figure has its interval"
    assert ["X-LLM (paper, VSDial-CN test-orig)", "3.4", "4.7 / 4.3", ""] in table
    assert ["CIF-based Model (paper, VSDial-CN test-art)", "6.0", "5.3", ""] in table
    shown = {s["group"]: [medium["kind"] for medium in s["media"]] for s in report["samples"]}
    assert shown["cif S"] == ["speech"] and shown["cif S+V"] == ["image", "speech"]
    code, out, err = xllm("eval", "masr", manifest(seeing, image=None), "--model", seeing / "seeing")
    assert code == 1 and "has no image" in err
