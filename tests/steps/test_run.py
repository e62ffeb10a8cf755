"""From rows to rows: every input counted, resumed = uninterrupted, parallel = sequential, nothing overwritten."""

import errno
import json
import os
from itertools import islice
from pathlib import Path

import pytest
from small_steps import Fails, Halve

from xllm.errors import ConfigError, XLLMError
from xllm.steps import run as running
from xllm.steps.rows import Dropped, Report, read_rows
from xllm.steps.run import run, sidecar
from xllm.steps.workers import processes


def numbers(count=1000):
    yield from ({"id": str(number), "response": "天" * (number % 7)} for number in range(count))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_inputs_are_kept_dropped_or_failed_and_the_counts_add_up(tmp_path):
    out = tmp_path / "a" / "x.jsonl"
    report = run(numbers, out, {"step": "halve"}, Halve())
    assert report == Report(1000, 400, 600, {"odd": 500}, {"broken": 100})
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows[:3]] == ["2", "4-0", "4-1"] and len(rows) == 600
    dropped = [json.loads(line) for line in sidecar(out, "dropped.jsonl").read_text().splitlines()]
    assert dropped[0] == {"id": "0", "reason": "broken", "detail": "a multiple of ten", "failed": True}
    assert len(dropped) == 600
    told = json.loads(sidecar(out, "report.json").read_text())
    assert told == {"made": {"step": "halve"}, "inputs": 1000, "kept": 400, "rows": 600, "dropped": {"odd": 500},
                    "failed": {"broken": 100}}  # fmt: skip
    assert len(tree(tmp_path)) == 3, "nothing else is left"


def test_what_was_dropped_before_the_step_passes_it_by(tmp_path):
    source = lambda: [Dropped("a", "no words"), {"id": "2"}, Dropped("b", "damaged", failed=True)]  # noqa: E731
    report = run(source, tmp_path / "x.jsonl", {}, Halve())
    assert report == Report(3, 1, 1, {"no words": 1}, {"damaged": 1})


def test_the_first_of_equal_keys_is_kept(tmp_path):
    source = lambda: [{"id": "1", "k": "a"}, {"id": "2", "k": "b"}, {"id": "3", "k": "a"}, {"id": "4"}, {"id": "5"}]  # noqa: E731
    report = run(source, tmp_path / "x.jsonl", {}, unique=lambda row: row.get("k"))
    assert report.dropped == {"duplicate": 1} and report.kept == 4, "rows without a key are never equal"
    assert [row["id"] for row in read_rows(tmp_path / "x.jsonl")] == ["1", "2", "4", "5"]


def test_limit_and_chunk(tmp_path):
    seen = []
    step = lambda rows: seen.append(len(rows)) or rows  # noqa: E731
    assert run(numbers, tmp_path / "x.jsonl", {}, step, limit=25, chunk=10).inputs == 25
    assert seen == [10, 10, 5]


def test_paths_are_relative_to_the_manifest_and_survive_a_move(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"")
    rows = [{"id": "1", "speech": str(tmp_path / "in" / "a.wav"), "image": ["b.png", "c.tar:1:2"]}]
    (tmp_path / "in" / "x.jsonl").write_text(json.dumps(rows[0] | {"speech": "a.wav"}) + "\n")
    run(lambda: read_rows(tmp_path / "in" / "x.jsonl"), tmp_path / "out" / "deep" / "x.jsonl", {})
    assert json.loads((tmp_path / "out" / "deep" / "x.jsonl").read_text()) == {
        "id": "1",
        "speech": "../../in/a.wav",
        "image": ["../../in/b.png", "../../in/c.tar:1:2"],
    }
    (found,) = read_rows(tmp_path / "out" / "deep" / "x.jsonl")
    assert Path(found["speech"]).resolve() == tmp_path / "in" / "a.wav"


def test_keys_without_a_meaning_stay_and_broken_lines_fail(tmp_path):
    manifest = tmp_path / "x.jsonl"
    manifest.write_bytes(b'{"id": "1", "mine": [1]}\n\nnonsense\n{"speech": 5}\n"text"\n{"response": "\xff"}\n{}\n')
    report = run(lambda: read_rows(manifest), tmp_path / "y.jsonl", {})
    assert report == Report(6, 2, 2, {}, {"not a sample": 4})
    assert [json.loads(line) for line in (tmp_path / "y.jsonl").read_text().splitlines()] == [
        {"id": "1", "mine": [1]},
        {"id": "x.jsonl:7"},
    ]
    with pytest.raises(XLLMError, match="cannot read"):
        run(lambda: read_rows(tmp_path / "none.jsonl"), tmp_path / "z.jsonl", {})


def test_what_json_cannot_hold_as_utf8_fails(tmp_path):
    report = run(lambda: [{"id": "1", "response": "a\udcff"}, {"id": "2"}], tmp_path / "x.jsonl", {})
    assert report == Report(2, 1, 1, {}, {"not UTF-8": 1})


class Stop(Exception):
    pass


@pytest.mark.parametrize("unique", [None, lambda row: row["id"][-2:]])
def test_resumed_is_uninterrupted(tmp_path, monkeypatch, unique):
    """Stopped after every chunk, once more and once less committed than written."""
    monkeypatch.setattr(running, "COMMIT", 0.0)
    whole = run(numbers, tmp_path / "whole" / "x.jsonl", {"step": "halve"}, Halve(), unique=unique, chunk=30)
    reached = []

    def impatient(report):
        reached.append(report.inputs)
        monkeypatch.setattr(running, "COMMIT", 0.0 if len(reached) % 3 else 1e9)
        raise Stop

    out = tmp_path / "cut" / "x.jsonl"
    for _ in range(200):
        try:
            report = run(numbers, out, {"step": "halve"}, Halve(), unique=unique, chunk=30, progress=impatient)
            break
        except Stop:
            assert not out.exists()
    assert report == whole and len(reached) > len(set(reached)) > 30, "some chunks were written twice"
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_parallel_is_sequential(tmp_path):
    for workers in (1, 3):
        out = tmp_path / str(workers) / "x.jsonl"
        run(numbers, out, {"step": "halve"}, Halve(), chunk=17, mapper=processes(workers))
    assert tree(tmp_path / "1") == tree(tmp_path / "3")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_step_raises_is_raised(tmp_path, workers):
    with pytest.raises(XLLMError, match="the model is not there"):
        run(numbers, tmp_path / "x.jsonl", {}, Fails(), mapper=processes(workers))
    assert not list(tmp_path.iterdir()), "nothing is left of what has not begun"


def test_done_is_done_and_made_otherwise_is_an_error(tmp_path):
    out = tmp_path / "x.jsonl"
    report = run(numbers, out, {"step": "halve"}, Halve(), limit=30)
    before = tree(tmp_path)
    never = lambda: pytest.fail("read again")  # noqa: E731
    assert run(never, out, {"step": "halve"}, Halve(), limit=30) == report and tree(tmp_path) == before
    with pytest.raises(ConfigError, match="made otherwise .*limit"):
        run(never, out, {"step": "halve"}, Halve())
    with pytest.raises(ConfigError, match="made otherwise .*step"):
        run(never, out, {"step": "other"}, limit=30)
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="move it away"):
        run(never, tmp_path / "mine.jsonl", {})
    assert (tmp_path / "mine.jsonl").read_text() == "{}\n"


def test_what_was_begun_otherwise_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "COMMIT", 0.0)

    def cut():
        yield from islice(numbers(), 600)
        raise Stop

    with pytest.raises(Stop):
        run(cut, tmp_path / "x.jsonl", {"step": "halve"}, Halve())
    with pytest.raises(ConfigError, match="begun otherwise"):
        run(numbers, tmp_path / "x.jsonl", {"step": "other"}, Halve())
    assert run(numbers, tmp_path / "x.jsonl", {"step": "halve"}, Halve()).inputs == 1000


def test_only_one_process_writes_a_manifest(tmp_path):
    def twice():
        yield {"id": "1"}
        with pytest.raises(ConfigError, match="another process"):
            run(numbers, tmp_path / "x.jsonl", {})

    assert run(twice, tmp_path / "x.jsonl", {}).kept == 1


def test_a_full_disk_names_the_manifest(tmp_path, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as writing to an open file says it

    monkeypatch.setattr("xllm.steps.run._Writer._commit", full)
    with pytest.raises(OSError) as caught:
        run(lambda: [{"id": "a"}], tmp_path / "x.jsonl", {})
    assert caught.value.filename == str(tmp_path / "x.jsonl")
