"""`xllm eval asr` end to end on random weights."""

import json
from pathlib import Path

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.opus"))


def manifest(folder, *lines):
    rows = [json.dumps({"id": path.stem, "speech": str(path), "response": "天地人。"}) for path in EXAMPLES[:2]]
    (folder / "m.jsonl").write_text("\n".join([*rows, *lines]) + "\n")
    return folder / "m.jsonl"


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
    code, out, _ = xllm(
        "eval", "asr", path, "--model", small_model, "--engine", "cif", "--baseline", tmp_path / "one", "--json"
    )
    assert json.loads(out)["engines"]["cif"]["minus baseline"] == [0.0, 0.0, 0.0]


def test_failures_are_listed_and_not_counted_as_errors(xllm, small_model, tmp_path):
    path = manifest(tmp_path, "{broken", json.dumps({"id": "gone", "speech": "gone.wav", "response": "天"}))
    code, out, err = xllm("eval", "asr", path, "--model", small_model, "--engine", "cif", "--json", "--quiet")
    summary = json.loads(out)
    assert code == 1 and summary["failed"] == 2
    assert summary["engines"]["cif"]["utterances"] == 2 and summary["engines"]["cif"]["characters"] == 6
    assert "m.jsonl:3" in err and "gone.wav" in err and "2 of 4 samples failed" in err


def test_missing_manifest_and_foreign_baseline(xllm, small_model, tmp_path):
    code, _, err = xllm("eval", "asr", tmp_path / "none.jsonl", "--model", small_model)
    assert code == 1 and "no such manifest" in err
    code, _, err = xllm(
        "eval", "asr", manifest(tmp_path), "--model", small_model, "--engine", "cif", "--baseline", tmp_path
    )
    assert code == 2 and "--baseline" in err
