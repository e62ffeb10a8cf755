"""Files inside archives: named by offset and length, read like files of their own."""

import os

import pytest
from raw_corpora import picture, tar, wav

from xllm.errors import MediaError
from xllm.media import load_audio
from xllm.members import Stretch, file_of, open_any, reference, split_reference
from xllm.pictures import load_picture


def test_names():
    assert reference("a/b.tar", 512, 40) == "a/b.tar:512:40"
    assert split_reference("a/b.tar:512:40") == ("a/b.tar", 512, 40)
    assert split_reference("a:1:2.zip:0:7") == ("a:1:2.zip", 0, 7)
    for path in ("a/b.tar", "a/b.wav:1:2", "b.tar:1", "b.tar:-1:2", "b.tar:1:2:", ".tar:1:2", "b.tar:1:" + "9" * 19):
        assert split_reference(path) is None
    assert file_of("a/b.tar:512:40") == "a/b.tar" and file_of("a/b.wav") == "a/b.wav"


def test_a_stretch_is_a_file(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"before" + b"0123456789" + b"after")
    with open_any(f"{tmp_path}/x.tar:6:10") as file:
        assert file.read(3) == b"012" and file.tell() == 3 and file.peek(2)[:2] == b"34"
        assert file.seek(-2, os.SEEK_END) == 8 and file.read() == b"89" and file.read() == b""
        assert file.seek(100) == 100 and file.read(5) == b""
        assert file.seek(2) == 2 and file.seek(3, os.SEEK_CUR) == 5 and file.read(2) == b"56"
        with pytest.raises(OSError):
            file.seek(-1)
    with open_any(str(tmp_path / "x.tar")) as file:
        assert file.read(6) == b"before"


def test_a_stretch_within_the_file_or_none(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"0123456789")
    assert (
        Stretch(tmp_path / "x.tar", 10, 0).read() == b"" and Stretch(tmp_path / "x.tar", 0, 10).read() == b"0123456789"
    )
    for where in ((0, 11), (11, 0), (5, 6)):
        with pytest.raises(OSError, match="ends before"):
            Stretch(tmp_path / "x.tar", *where)


def test_media_are_loaded_from_members(tmp_path):
    wav(tmp_path / "in" / "a.wav", 0.2)
    picture(tmp_path / "in" / "b.png", 77)
    archive = tar(tmp_path / "x.tar", tmp_path / "in")
    content = archive.read_bytes()
    for name, load in (("a.wav", load_audio), ("b.png", load_picture)):
        data = (tmp_path / "in" / name).read_bytes()
        member = reference(str(archive), content.index(data), len(data))
        assert load(member).equal(load(tmp_path / "in" / name))
    with pytest.raises(MediaError, match=r"x\.tar:0:99999999: cannot be read: the archive ends before"):
        load_audio(f"{archive}:0:99999999")
