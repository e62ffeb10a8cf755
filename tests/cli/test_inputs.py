"""What is listed: folders, links, leftovers, manifests, pipes."""

import json
import os
from threading import Thread

import pytest

from xllm.media import AUDIO_SUFFIXES, MEDIA_SUFFIXES
from xllm_cli.inputs import expand


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b/z.wav", "in/b/y.OPUS", "in/x.m4b", "in/notes.txt", "in/._x.m4b", "in/__MACOSX/x.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path / "in"


def listed(*given):
    sources, failures = expand(map(str, given))
    return [source.path for source in sources], [failure.message for failure in failures]


def test_a_folder_without_leftovers_in_order(folder, capsys):
    assert listed("in") == (["in/b/y.OPUS", "in/b/z.wav", "in/x.m4b"], [])
    assert capsys.readouterr().err == ""


def test_every_suffix_in_any_case(tmp_path):
    for suffix in MEDIA_SUFFIXES:
        (tmp_path / f"a{suffix.upper()}").write_bytes(b"1")
    assert len(listed(tmp_path)[0]) == len(MEDIA_SUFFIXES)
    assert set(AUDIO_SUFFIXES) > {".m4b", ".mp2", ".mka", ".aif", ".caf", ".w64"} and {".3gp", ".m4v"} < MEDIA_SUFFIXES


def test_links_once_and_no_loops(folder, tmp_path, capsys):
    (folder / "a.wav").symlink_to("b/z.wav")
    (folder / "loop").symlink_to(".")
    (folder / "0").symlink_to("b")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "o.wav").write_bytes(b"1")
    (folder / "there").symlink_to("../other")
    (folder / "gone.wav").symlink_to("nowhere")
    os.link(folder / "x.m4b", folder / "hard.m4b")
    os.mkfifo(folder / "pipe.wav")
    expected = ["b/y.OPUS", "b/z.wav", "gone.wav", "hard.m4b", "there/o.wav", "x.m4b"]
    assert listed("in") == ([f"in/{name}" for name in expected], [])
    assert capsys.readouterr().err == "in: 1 symbolic links lead to files that are listed already\n"


def test_folders_that_cannot_be_read_are_failures(folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert listed("in") == (["in/x.m4b"], ["in/b: cannot be read: Permission denied"])


def test_names_that_no_file_can_have(folder):
    for name in ("n" * 300, "a\nb.wav", "caf\udce9.wav"):
        assert listed(name) == ([name], []), "found out when it is read"


def test_a_pipe_is_read_when_it_is_listed(folder):
    os.mkfifo("pipe")
    for data in (b"1", b""):
        writer = Thread(target=(folder.parent / "pipe").write_bytes, args=(data,))
        writer.start()
        sources, failures = expand(["pipe"])
        writer.join()
        assert [source.file.read() for source in sources] == ([data] if data else [])
        assert [failure.message for failure in failures] == ([] if data else ["pipe: nothing came through the pipe"])


def test_broken_rows_and_repeated_ids(folder, capsys):
    rows = [json.dumps({"id": name, "speech": "b/z.wav"}).encode() for name in "aba"]
    (folder / "m.JSONL").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([rows[0], b'{"id": "\xff"}', *rows[1:]]))
    sources, failures = expand(["in/m.JSONL"])
    assert [source.id for source in sources] == ["a", "b", "a"]
    assert [failure.message.split(": ")[0] for failure in failures] == ["in/m.JSONL:2"]
    assert capsys.readouterr().err == "in/m.JSONL: 1 ids stand in several rows, the first is 'a'; all rows are done\n"
