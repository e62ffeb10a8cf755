"""`xllm eval asr` end to end: on a stand-in whose errors are known, and on random weights."""

import json
import sys
from pathlib import Path

import pytest
import torch
from media_files import tone, write_audio

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.opus"))


def manifest(folder, *lines):
    rows = [json.dumps({"id": path.stem, "speech": str(path), "response": "天地人。"}) for path in EXAMPLES[:2]]
    (folder / "m.jsonl").write_text("\n".join([*rows, *lines]) + "\n")
    return folder / "m.jsonl"


@pytest.fixture
def stand_in(monkeypatch):
    """Instead of a model: cif writes 天地你 whatever is said, xllm is always right; and every sound is speech."""
    from xllm import transcribe
    from xllm.model import XLLM
    from xllm.segment import Piece, Speech
    from xllm.transcript import Token, Transcript

    loads = []

    class StandIn:
        device = torch.device("cpu")

        def transcribe(self, waves, engine, sights, batch_size):
            text = {"cif": "天地你", "xllm": "天地人"}[engine]
            return [Transcript(text, [Token(c, 0.0, 0.1, 0.5) for c in text], 0.5) for _ in waves]

    def load(*arguments):
        loads.append(arguments)
        return StandIn()

    def hear(chunks):
        seconds = sum(len(chunk) for chunk in chunks) / 16000
        return [Speech(0.0, seconds)], seconds

    def whole(chunks, speech):
        yield Piece(0.0, next(iter(chunks)), speech[0])

    monkeypatch.setattr(XLLM, "from_pretrained", staticmethod(load))
    monkeypatch.setattr(transcribe, "find_speech", hear)
    monkeypatch.setattr(transcribe, "cut", whole)
    return loads


@pytest.fixture
def spoken(tmp_path):
    """A manifest of three generated wav files."""
    lines = []
    for number in range(3):
        write_audio(tmp_path / f"{number}.wav", tone(0.5 + number))
        lines.append(json.dumps({"id": str(number), "speech": f"{number}.wav", "response": "天地，人。"}))
    (tmp_path / "m.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "m.jsonl"


def test_known_errors_give_the_known_table(xllm, stand_in, spoken, tmp_path):
    code, out, err = xllm("eval", "asr", spoken, "-o", tmp_path / "out", "--device", "cpu")
    table, shown = out.split("\nworst of cif:\n")
    cells = {line[:18].strip(): line[18:].split() for line in table.splitlines()}
    assert code == 0 and err == "" and len(stand_in) == 1, "one model serves both engines"
    assert cells[""] == ["cif", "xllm"]
    assert cells["CER %"] == ["33.33", "0.00"] and cells["95% interval"] == ["33.33-33.33", "0.00-0.00"]
    assert cells["substitutions"] == ["3", "0"] and cells["characters"] == ["9", "9"]
    assert cells["xllm minus cif"] == ["-33.33", "(-33.33..-33.33)"] and cells["failed"] == ["0", "0"]
    assert shown.splitlines()[:3] == ["   33%  0", "  reference  天地[人]", "  hypothesis 天地[你]"]
    assert shown.count("reference") == 3 and "worst of xllm" not in shown
    row = json.loads((tmp_path / "out" / "asr-cif.jsonl").read_text().splitlines()[1])
    assert row == {
        "id": "1",
        "speech": str(tmp_path / "1.wav"),
        "reference": "天地人",
        "hypothesis": "天地你",
        "substitutions": 1,
        "deletions": 0,
        "insertions": 0,
        "score": 0.5,
        "duration": 1.5,
        "cer": 0.3333,
    }
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["engines"]["cif"]["real_time_factor"] > 0 and summary["failures"] == []


def test_the_report_stands_beside_the_papers_table(xllm, stand_in, spoken, tmp_path):
    spoken.write_text(spoken.read_text() + json.dumps({"id": "gone", "speech": "gone.wav", "response": "天"}) + "\n")
    code, _, _ = xllm("eval", "asr", spoken, "-o", tmp_path / "out", "--device", "cpu", "--batch-size", 2)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    table = report["tables"]["As the paper's Table 4"]
    assert code == 1 and table[0][1:] == [
        "m.jsonl",
        *(f"AISHELL-2 test-{device}" for device in ("ios", "android", "mic")),
    ]
    assert table[1:3] == [
        ["cif (ours)", "33.33 (33.33-33.33)", "", "", ""],
        ["xllm (ours)", "0.00 (0.00-0.00)", "", "", ""],
    ]
    assert table[4] == ["X-LLM (paper)", "", "8.7", "9.0", "9.4"]
    assert report["figures"]["engines"]["cif"]["cer"] == 33.33 and report["figures"]["failed"] == 1
    assert report["settings"] == {"manifest": str(spoken), "model": "tiny", "batch_size": 2, "device": "cpu"}
    assert report["command"].startswith("xllm eval asr /") and report["command"].endswith("--batch-size 2")
    samples = {(s["id"], s["group"]): s for s in report["samples"]}
    assert len(samples) == 8 and samples["0", "cif"]["wrong"] and not samples["0", "xllm"]["wrong"]
    assert (
        samples["gone", "cif"]["numbers"] == {"CER %": None} and "gone.wav" in samples["gone", "cif"]["texts"]["error"]
    )
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| cif (ours) | 33.33 (33.33-33.33) |" in text and "1 samples failed" in text
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("data:audio/wav;base64,") == 3 and html.endswith("</html>\n"), "a sound is in the page once"


def test_a_terminal_gets_a_drawn_table(xllm, stand_in, spoken, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, _ = xllm("eval", "asr", spoken, "--engine", "cif", "--quiet")
    assert code == 0 and "─" in out and "33.33" in out


def test_both_engines_side_by_side_with_samples_and_baseline(xllm, small_model, tmp_path):
    path = manifest(tmp_path)
    code, out, err = xllm("eval", "asr", path, "--model", small_model, "-o", tmp_path / "one", "--quiet")
    assert code == 0 and err == ""
    assert out.splitlines()[0].split() == ["cif", "xllm"]
    assert "95% interval" in out and "xllm minus cif" in out
    for engine in ("cif", "xllm"):
        rows = [json.loads(line) for line in (tmp_path / "one" / f"asr-{engine}.jsonl").read_text().splitlines()]
        assert [row["id"] for row in rows] == [path.stem for path in EXAMPLES[:2]]
        assert rows[0]["reference"] == "天地人" and {"hypothesis", "substitutions", "cer"} <= set(rows[0])
    options = ["--model", small_model, "--engine", "cif", "--baseline", tmp_path / "one"]
    code, out, _ = xllm("eval", "asr", path, *options, "--json")
    gap = json.loads(out)["engines"]["cif"]["minus baseline"]
    assert code == 0 and gap == {"points": 0.0, "low": 0.0, "high": 0.0, "utterances": 2}
    assert "minus baseline" in xllm("eval", "asr", path, *options)[1]


def test_failures_are_listed_and_not_counted_as_errors(xllm, small_model, tmp_path):
    path = manifest(tmp_path, "{broken", json.dumps({"id": "gone", "speech": "gone.wav", "response": "天"}))
    code, out, err = xllm("eval", "asr", path, "--model", small_model, "--json", "--quiet")
    summary = json.loads(out)
    assert code == 1 and summary["failed"] == 2, "a file that fails fails in both engines, and counts once"
    assert summary["engines"]["cif"]["utterances"] == 2 and summary["engines"]["cif"]["characters"] == 6
    assert "m.jsonl:3" in summary["failures"][0] and "gone.wav" in summary["failures"][1]
    assert "m.jsonl:3" in err and "gone.wav" in err and "2 of 4 samples failed" in err


def test_nothing_but_failures_is_a_count_of_them(xllm, small_model, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"id": "gone", "speech": "gone.wav", "response": "天"}) + "\n")
    code, out, err = xllm("eval", "asr", path, "--model", small_model)
    assert code == 1 and out.split() == ["failed", "1"] and "1 of 1 samples failed" in err
    path.write_text("{broken\n")
    code, out, _ = xllm("eval", "asr", path, "--model", small_model, "--json", "-o", tmp_path / "out")
    assert code == 1 and json.loads(out)["engines"] == {}
    assert "X-LLM (paper)" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["none.jsonl"], 1, "none.jsonl: cannot read the manifest"),
        (["empty.jsonl"], 1, "empty.jsonl: no samples"),
        (["m.jsonl", "--baseline", "nowhere"], 2, "asr-cif.jsonl: cannot be read"),
        (["m.jsonl", "--baseline", "other"], 2, "has no sample of this manifest"),
        (["m.jsonl", "-o", "m.jsonl/sub"], 2, "cannot write there"),
        (["m.jsonl", "--device", "tpu"], 2, "unknown device 'tpu'"),
    ],
)
def test_what_cannot_work_is_one_line_before_the_work(xllm, stand_in, spoken, monkeypatch, arguments, code, message):
    from xllm.evaluation.recognition import score

    monkeypatch.chdir(spoken.parent)
    Path("empty.jsonl").write_text("")
    Path("other").mkdir()
    for engine in ("cif", "xllm"):
        Path("other", f"asr-{engine}.jsonl").write_text(json.dumps(score("z", "", "天", "天").as_dict()) + "\n")
    got, out, err = xllm("eval", "asr", *arguments)
    assert (got, out) == (code, "") and err.count("\n") == 1 and message in err
    assert stand_in == []
