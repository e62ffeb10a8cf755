"""Result files: names that stay, keys that are contents, one run at a time, and what is lost when writing fails."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from xllm.errors import ConfigError
from xllm.members import reference
from xllm.spool import spool
from xllm.transcribe import Source
from xllm_cli import outputs as module
from xllm_cli.outputs import JOURNAL, Outputs


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """mon/a.wav and tue/a.wav with other bytes, mon/b.wav with those of mon/a.wav."""
    monkeypatch.chdir(tmp_path)
    for name, data in (("mon/a.wav", b"1"), ("mon/b.wav", b"1"), ("tue/a.wav", b"2")):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    return tmp_path


def run(*paths, resume=False, form="txt", text=None, **settings) -> dict[str, str]:
    """Transcribe as if: which inputs were done, and the names of the results of all."""
    sources = [path if isinstance(path, Source) else Source(path, path) for path in paths]
    done = {}
    with Outputs(Path("o"), form, settings) as outputs:
        for result in outputs.plan(sources, resume):
            done[result.source.path] = (result.name, result.done)
            if not result.done:
                assert outputs.write(result, text or ascii(f"text of {result.source.path}")[1:-1]) is None
    return done


def read(name):
    return Path("o", name).read_text()


def test_names_are_below_the_common_folder(inputs):
    assert run("mon/a.wav", "tue/a.wav") == {
        "mon/a.wav": ("mon/a.wav.txt", False),
        "tue/a.wav": ("tue/a.wav.txt", False),
    }
    assert {path.name for path in Path("o").iterdir()} == {JOURNAL, "mon", "tue"}, "no lock, nothing unfinished"


def test_names_stay_and_no_result_is_overwritten_by_another_run(inputs, capsys):
    assert run("mon/a.wav") == {"mon/a.wav": ("a.wav.txt", False)}
    assert run("tue/a.wav") == {"tue/a.wav": ("tue/a.wav.txt", False)}
    assert "tue/a.wav: its result is tue/a.wav.txt, since a.wav.txt is another's" in capsys.readouterr().err
    again = run("mon/a.wav", "tue/a.wav", "mon/b.wav", resume=True)
    assert [again[path] for path in ("mon/a.wav", "tue/a.wav")] == [("a.wav.txt", True), ("tue/a.wav.txt", True)]
    assert again["mon/b.wav"] == ("mon/b.wav.txt", True) and read("mon/b.wav.txt") == "text of mon/a.wav"
    assert run("tue/a.wav", text="new") == {"tue/a.wav": ("tue/a.wav.txt", False)}
    assert (read("a.wav.txt"), read("tue/a.wav.txt")) == ("text of mon/a.wav", "new"), "its own is replaced"


def test_a_file_that_is_nobodys_result_stays(inputs):
    Path("o").mkdir()
    Path("o/a.wav.txt").write_text("my notes")
    assert run("mon/a.wav") == {"mon/a.wav": ("mon/a.wav.txt", False)}
    assert read("a.wav.txt") == "my notes"


def test_an_input_given_twice_has_two_results(inputs):
    with Outputs(Path("o"), "txt", {}) as outputs:
        names = [result.name for result in outputs.plan([Source("x", "mon/a.wav")] * 3, resume=False)]
    assert names == ["a.wav.txt", "a.wav.2.txt", "a.wav.3.txt"]


def test_content_weights_and_settings_are_the_key_and_names_are_not(inputs):
    run("mon/a.wav", model="1")
    assert run("mon/a.wav", resume=True, model="1")["mon/a.wav"][1]
    assert not run("mon/a.wav", resume=True, model="2")["mon/a.wav"][1]
    assert not run("mon/a.wav", resume=True, model="1")["mon/a.wav"][1], "what the last run wrote is what is there"
    Path("mon/a.wav").write_bytes(b"3")
    assert run("mon/a.wav", resume=True, model="1") == {"mon/a.wav": ("a.wav.txt", False)}
    source = Source("a", "mon/a.wav", caption="a sun", pictures=("mon/b.wav",))
    assert not run(source, resume=True, model="1")["mon/a.wav"][1]
    assert run(source, resume=True, model="1")["mon/a.wav"][1]
    assert not run(replace(source, caption="a moon"), resume=True, model="1")["mon/a.wav"][1]
    Path("mon/b.wav").write_bytes(b"3")
    assert not run(source, resume=True, model="1")["mon/a.wav"][1]


def test_a_renamed_input_gets_its_result_by_its_new_name(inputs):
    text = json.dumps({"id": "mon/a.wav", "path": "mon/a.wav", "text": "x"})
    run("mon/a.wav", form="json", text=text)
    os.rename("mon/a.wav", "mon/c.wav")
    assert run("mon/c.wav", form="json", resume=True) == {"mon/c.wav": ("c.wav.json", True)}
    assert json.loads(read("c.wav.json")) == {"id": "mon/c.wav", "path": "mon/c.wav", "text": "x"}
    os.rename("mon", "wed")
    assert run("wed/c.wav", form="json", resume=True) == {"wed/c.wav": ("c.wav.json", True)}, "the same place below"
    assert json.loads(read("c.wav.json"))["path"] == "wed/c.wav"


def test_members_of_archives_are_known_by_their_bytes(inputs):
    for data, done in ((b"1", False), (b"1", True), (b"2", False)):
        Path("x.tar").write_bytes(bytes(512) + data)
        member = reference("x.tar", 512, 1)
        assert run(member, resume=True)[member] == ("x.tar:512:1.txt", done)


def test_pipes_are_known_by_what_came_through(inputs):
    def stdin(data):
        Path("pipe").write_bytes(data)
        with open("pipe", "rb") as file:
            return Source("-", "-", spool(file, "<stdin>"))

    assert run(stdin(b"1"), text="one") == {"-": ("stdin.txt", False)}
    assert run(stdin(b"1"), resume=True) == {"-": ("stdin.txt", True)}
    name, done = run(stdin(b"2"), text="two", resume=True)["-"]
    assert not done and name.startswith("stdin.") and (read("stdin.txt"), read(name)) == ("one", "two")


@pytest.mark.parametrize("name", ["长" * 80 + ".wav", "n" * 255, "caf\udce9.wav", "a\nb.wav", "Re: call.wav"])
def test_any_name_of_an_input_gives_one_of_a_result(inputs, name):
    Path("mon", name).write_bytes(b"1")
    Path("mon", name[:-1] + "x").write_bytes(b"2")
    names = [found for found, _ in run(f"mon/{name}", f"mon/{name[:-1]}x").values()]
    assert len(set(names)) == 2 and all(len(os.fsencode(found)) <= 255 for found in names)
    assert all(done for _, done in run(f"mon/{name}", f"mon/{name[:-1]}x", resume=True).values())


def test_one_run_at_a_time(inputs):
    with Outputs(Path("o"), "txt", {}), pytest.raises(ConfigError, match="-o o: another run is writing there"):
        Outputs(Path("o"), "srt", {}).__enter__()
    run("mon/a.wav")


def test_what_cannot_be_written_is_one_input_lost(inputs, monkeypatch):
    def full(path, text):
        if path.name == "b.wav.txt":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        path.write_text(text)

    monkeypatch.setattr(module, "write_atomic", full)
    with Outputs(Path("o"), "txt", {}) as outputs:
        results = outputs.plan([Source(p, p) for p in ("mon/a.wav", "mon/b.wav")], resume=False)
        lost = [outputs.write(result, "text") for result in results]
    assert lost[0] is None
    assert str(lost[1]) == "mon/b.wav: its result cannot be written: o/b.wav.txt: No space left on device"


def test_a_journal_that_was_cut_costs_what_was_cut(inputs):
    run("mon/a.wav", "tue/a.wav")
    journal = Path("o", JOURNAL)
    journal.write_bytes(journal.read_bytes()[:-10] + b'\xff\n[1]\n{"output": 1, "input": 2, "key": 3}')
    done = run("mon/a.wav", "tue/a.wav", resume=True)
    assert [flag for _, flag in done.values()] == [True, False]
    assert all(flag for _, flag in run("mon/a.wav", "tue/a.wav", resume=True).values())
    with journal.open("a") as out:
        out.write("\n" + json.dumps({"output": "../out.txt", "input": str(inputs / "mon" / "b.wav"), "key": None}))
    assert run("mon/b.wav")["mon/b.wav"][0] == "b.wav.txt", "no journal leads out of the folder"


def test_an_input_that_changes_while_it_is_transcribed_is_not_done(inputs):
    with Outputs(Path("o"), "txt", {}) as outputs:
        (result,) = outputs.plan([Source("a", "mon/a.wav")], resume=False)
        Path("mon/a.wav").write_bytes(b"4")
        assert outputs.write(result, "text of 1") is None
    assert not run("mon/a.wav", resume=True)["mon/a.wav"][1]


def test_what_a_killed_run_left_is_removed(inputs):
    run("mon/a.wav", "tue/a.wav")
    for left in ("o/mon/.xllm-1f.tmp", "o/tue/.xllm-2f.tmp"):
        Path(left).write_text("part")
    run("mon/a.wav", "tue/a.wav", resume=True)
    assert not list(Path("o").rglob("*.tmp"))
