"""A corpus as one tree, in folders and in archives; hostile archives; nothing unpacked but in OUT."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from raw_corpora import tar, tree, write, zipped

from xllm.corpora import archives
from xllm.corpora.json_files import items, pairs
from xllm.corpora.raw import Raw, Unusable, near
from xllm.errors import XLLMError
from xllm.members import open_any, split_reference

FILES = {"a.txt": b"alpha", "b/c.txt": b"gamma", "b/d/空 格.txt": "中文".encode(), "b/empty.txt": b""}


def folder(at: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, data in files.items():
        write(at / name, data)
    return at


def seen(raw: Raw) -> dict[str, bytes]:
    found = {}
    for name in raw.names((".txt",)):
        with open_any(raw.media(name)) as file:
            found[name] = file.read()
    return found


def packed_gz(at: Path, source: Path) -> None:
    """a.txt in a tgz, b in a tar.gz in the same tgz, as AISHELL-1's speakers are."""
    inner = tar(at / "inner" / "b.tar.gz", source, ["b"], "w:gz").parent
    write(inner / "a.txt", (source / "a.txt").read_bytes())
    tar(at / "all.tgz", inner, mode="w:gz")
    for path in inner.iterdir():
        path.unlink()
    inner.rmdir()


PACKED = {
    "tar": lambda at, source: tar(at / "all.tar", source),
    "bz2": lambda at, source: tar(at / "all.tar.bz2", source, mode="w:bz2"),
    "xz": lambda at, source: tar(at / "all.tar.xz", source, mode="w:xz"),
    "nested": packed_gz,
    "stored": lambda at, source: zipped(at / "all.zip", source, method=zipfile.ZIP_STORED),
    "deflated": lambda at, source: zipped(at / "all.ZIP", source),
    "in parts": lambda at, source: (tar(at / "1.tar", source, ["a.txt"]), tar(at / "2.tar.gz", source, ["b"], "w:gz")),
}


@pytest.mark.parametrize("kind", PACKED)
def test_archives_are_folders(tmp_path, kind):
    PACKED[kind](tmp_path / "raw", folder(tmp_path / "source"))
    held = list((tmp_path / "raw").iterdir())
    before = tree(tmp_path / "raw")
    for number, place in enumerate([tmp_path / "raw", *(held if len(held) == 1 else [])]):
        out = tmp_path / f"out{number}"
        with Raw(place, out) as raw:
            assert seen(raw) == FILES
            assert raw.find("c.txt") == ["b/c.txt"] and raw.find("*.txt") == sorted(FILES)
            assert list(raw.names((".txt",))) == sorted(FILES) and list(raw.names((".md",))) == []
        unpacked = {path.name for path in out.iterdir()}
        assert unpacked == (set() if kind in ("tar", "stored") else {"unpacked"}), "only what is compressed is copied"
    assert tree(tmp_path / "raw") == before
    assert {path.name for path in tmp_path.iterdir()} <= {"raw", "source", "out0", "out1"}


def test_folders(tmp_path):
    with Raw(folder(tmp_path / "raw"), tmp_path / "out") as raw:
        assert seen(raw) == FILES
        assert raw.media("b/c.txt") == str(tmp_path / "raw" / "b" / "c.txt")
        assert raw.media("x.txt", "b/x.txt", "a.txt", "b/c.txt") == str(tmp_path / "raw" / "a.txt")
        assert raw.one("c.txt") == raw.one("b/c.txt") == "b/c.txt"
        for missing in ("b", "", "no.txt", "a.txt/x", "nul\0.txt", "x" * 300, "\ud800", "\udcff"):
            with pytest.raises(Unusable, match="no such file"):
                raw.media(missing)
    with (
        pytest.raises(XLLMError, match="holds no x.txt; give the folder of one corpus"),
        Raw(raw.root, raw.work) as raw,
    ):
        raw.one("x.txt")
    with pytest.raises(XLLMError, match="holds 4 files"), Raw(raw.root, raw.work) as raw:
        raw.one("*.txt")
    for wrong in ("nowhere", "raw/a.txt"):
        with pytest.raises(XLLMError, match="nowhere: no such folder|neither a folder nor an archive"):
            Raw(tmp_path / wrong, tmp_path / "out")


def test_near():
    assert near("x.json", "i/1.jpg") == ("i/1.jpg",)
    assert near("a/b/x.json", "1", "2") == ("a/b/1", "a/b/2", "a/1", "a/2", "1", "2")


def test_out_may_lie_in_raw(tmp_path):
    packed_gz(tmp_path, folder(tmp_path / "source"))
    for _ in range(2):  # the second time with archives of the first in there
        with Raw(tmp_path, tmp_path / "out") as raw:
            assert raw.archives() == ["all.tgz"]
            assert raw.find("inner/*") == [] and raw.one("source/b/c.txt") == "source/b/c.txt"


def test_links_lead_nowhere_else(tmp_path):
    root = folder(tmp_path / "raw")
    write(tmp_path / "secret" / "s.txt", "secret")
    (root / "out.txt").symlink_to(tmp_path / "secret" / "s.txt")
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "in.txt").symlink_to("b/c.txt")
    (root / "inside").symlink_to("b")
    (root / "broken.txt").symlink_to("nowhere.txt")
    (tmp_path / "link").symlink_to(root)
    with Raw(tmp_path / "link", tmp_path / "out") as raw:
        for name in ("in.txt", "inside/c.txt"):
            assert open_any(raw.media(name)).read() == b"gamma"
        for name in ("out.txt", "outside/s.txt", "../secret/s.txt", "b/../../secret/s.txt"):
            with pytest.raises(Unusable, match="link out of the corpus"):
                raw.media(name)
        assert raw.media("out.txt", "a.txt").endswith("raw/a.txt")
        for name in ("broken.txt", "/etc/passwd", str(tmp_path / "secret" / "s.txt")):
            with pytest.raises(Unusable, match="no such file"):
                raw.media(name)
        with pytest.raises(XLLMError, match="out.txt: link out of the corpus"):
            raw.open("out.txt")


def hostile(archive: tarfile.TarFile) -> None:
    """Members that want to be elsewhere, and one that is as it should be."""
    kinds = {"l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "f": tarfile.FIFOTYPE, "d": tarfile.CHRTYPE}
    for name in ("../up.txt", "b/../../up.txt", "/abs.txt", "..", "\udcff.txt", "good.txt", *kinds):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kinds.get(name, tarfile.REGTYPE), "../../secret" if name in kinds else ""
        info.size = 0 if name in kinds else 4
        archive.addfile(info, io.BytesIO(b"evil"))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_members_that_lead_out_are_left_out(tmp_path, caplog, mode):
    with tarfile.open(
        tmp_path / "x.tar.gz" if mode == "w:gz" else tmp_path / "x.tar", mode, format=tarfile.GNU_FORMAT
    ) as file:
        hostile(file)
    before = tree(tmp_path)
    with Raw(next(tmp_path.iterdir()), tmp_path / "out") as raw:
        assert seen(raw) == {"good.txt": b"evil"} and raw.find("*") == ["good.txt"]
        for name in ("../up.txt", "up.txt", "/abs.txt", "abs.txt", "l", "\udcff.txt"):
            with pytest.raises(Unusable):
                raw.media(name)
    told = " ".join(caplog.messages)
    assert "4 of its members left out: names that lead out of the archive" in told
    assert "4 of its members left out: links and special files" in told
    assert "1 of its members left out: names that are not UTF-8" in told
    after = {name: data for name, data in tree(tmp_path).items() if not name.startswith("out/unpacked/")}
    assert after == before


def test_zip_members_that_lead_out_are_left_out(tmp_path, caplog):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("../up.txt", "/abs.txt", "good.txt"):
            file.writestr(name, "evil")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "../../secret")
    with Raw(tmp_path / "x.zip", tmp_path / "out") as raw:
        assert raw.find("*") == ["good.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip", "out"}
    assert "2 of its members left out: names that lead out" in caplog.text and "1 of its members" in caplog.text


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_encrypted_and_unknown_files_of_a_zip_are_told(tmp_path, caplog, method):
    data = bytearray(zipped(tmp_path / "x.zip", folder(tmp_path / "source"), method=method).read_bytes())
    local, central = data.index(b"PK\3\4"), data.index(b"PK\1\2")
    assert data[local + 30 : local + 35] == data[central + 46 : central + 51] == b"a.txt"
    data[local + 6] |= 1
    data[central + 8] |= 1
    data[data.rindex(b"b/c.txt") - 36] = 9  # Deflate64, as Windows has it
    write(tmp_path / "x.zip", bytes(data))
    with Raw(tmp_path / "x.zip", tmp_path / "out") as raw:
        assert raw.find("*") == ["b/d/空 格.txt", "b/empty.txt"]
    assert "1 of its members left out: encrypted files" in caplog.text
    assert "1 of its members left out: files compressed in an unknown way" in caplog.text


@pytest.mark.parametrize("kind", ["tar", "tgz", "bz2", "xz", "zip", "nested"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_truncated_archives_are_told(tmp_path, kind, share):
    source = folder(tmp_path / "source", {f"{n}.txt": os.urandom(3000) for n in range(5)})
    archive = {
        "tar": lambda: tar(tmp_path / "raw" / "x.tar", source),
        "tgz": lambda: tar(tmp_path / "raw" / "x.tgz", source, mode="w:gz"),
        "bz2": lambda: tar(tmp_path / "raw" / "x.tar.bz2", source, mode="w:bz2"),
        "xz": lambda: tar(tmp_path / "raw" / "x.tar.xz", source, mode="w:xz"),
        "zip": lambda: zipped(tmp_path / "raw" / "x.zip", source),
        "nested": lambda: tar(tmp_path / "raw" / "x.tar", tar(tmp_path / "i" / "y.tar.gz", source, mode="w:gz").parent),
    }[kind]()
    size = len(archive.read_bytes().rstrip(b"\0"))  # a tar without its last blocks is whole
    os.truncate(archive, int(share * size))
    with pytest.raises(XLLMError, match=r"x\.\S+: damaged archive \(.+\); download it again|x\.\S+: cannot be read"):
        Raw(tmp_path / "raw", tmp_path / "out").find("x")
    assert {path.name for path in (tmp_path / "out").rglob("*")} <= {
        ".index.sqlite",
        ".index.sqlite-journal",
        "unpacked",
    }


@pytest.mark.parametrize("place", [0, 148])
def test_a_tar_with_something_else_in_it_is_told(tmp_path, place):
    source = folder(tmp_path / "source", {f"{n}.txt": b"short" for n in range(3)})
    archive = tar(tmp_path / "x.tar", source)
    with tarfile.open(archive) as file:
        header = file.getmember("1.txt").offset
    data = bytearray(archive.read_bytes())
    data[header + place : header + place + 8] = b"nonsense"  # its name, or its checksum
    write(archive, bytes(data))
    with pytest.raises(XLLMError, match="damaged archive"):
        Raw(archive, tmp_path / "out").find("x")


def test_a_bomb_is_refused(tmp_path):
    """Eighty million zeros in a few thousand bytes, unpacked to no more than is allowed."""
    with tarfile.open(tmp_path / "x.tar.xz", "w:xz", preset=0) as file:
        info = tarfile.TarInfo("zeros.txt")
        info.size = 80 << 20
        file.addfile(info, open("/dev/zero", "rb"))
    assert (tmp_path / "x.tar.xz").stat().st_size < 100_000
    with pytest.raises(XLLMError, match=r"x\.tar\.xz: refused: unpacks to more than 100 times its size"):
        Raw(tmp_path / "x.tar.xz", tmp_path / "out").find("x")
    assert list((tmp_path / "out" / "unpacked").iterdir()) == []


@pytest.mark.parametrize("kind", ["tgz", "deflated", "nested zip", "many"])
def test_bombs_of_all_kinds(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "GRACE", 1000)
    zeros = {"zeros.txt": bytes(300_000)}
    source = folder(tmp_path / "source", zeros if kind != "many" else {f"{n}.txt": bytes(9_000) for n in range(50)})
    if kind == "tgz":
        archive = tar(tmp_path / "x.tgz", source, mode="w:gz")
    elif kind == "nested zip":
        archive = tar(
            tmp_path / "x.tar", zipped(tmp_path / "i" / "y.zip", zipped(tmp_path / "j" / "z.zip", source).parent).parent
        )
        monkeypatch.setattr(archives, "MAX_RATIO", 10)
    else:
        archive = zipped(tmp_path / "x.zip", source)
        monkeypatch.setattr(archives, "MAX_RATIO", 50)
    with pytest.raises(XLLMError, match="refused: unpacks to more than"):
        Raw(archive, tmp_path / "out").find("x")


def test_archives_deeper_than_three_are_left_out(tmp_path, caplog):
    source = folder(tmp_path / "0", {"0.txt": b"deep"})
    for depth in range(4):
        write(source / f"{depth}.txt", str(depth))
        source = tar(tmp_path / str(depth + 1) / f"{depth}.tar", source).parent
    with Raw(source / "3.tar", tmp_path / "out") as raw:
        assert raw.find("*") == ["1.txt", "2.txt", "3.txt"]
    assert "archives more than 3 deep" in caplog.text


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_what_lies_unpacked_beside_is_not_unpacked_again(tmp_path, mode):
    root = folder(tmp_path / "raw")
    inner = tar(tmp_path / "inner" / "b.tar.gz", root, ["b"], "w:gz").parent
    write(inner / "a.txt", FILES["a.txt"])
    tar(root / ("all.tgz" if mode == "w:gz" else "all.tar"), inner, mode=mode)
    with Raw(root, tmp_path / "out") as raw:
        assert seen(raw) == FILES and raw.find("nothing") == []
        assert {split_reference(raw.media(name)) for name in FILES} == {None}
        assert not (tmp_path / "out" / "unpacked").exists()
    write(root / "a.txt", "alphabet")  # the same name, but not the same file: it does not hide the archive
    (root / "b" / "c.txt").unlink()
    with Raw(root, tmp_path / "out") as raw:
        assert open_any(raw.media("b/c.txt")).read() == b"gamma" and open_any(raw.media("a.txt")).read() == b"alphabet"


def test_archives_of_nearly_the_same_name(tmp_path):
    """Each has its own place in OUT."""
    for number, name in enumerate(("a-b.tgz", "a/b.tgz", "a-b.tar.gz", "a-b.zip")):
        source = folder(tmp_path / str(number), {f"{number}.txt": str(number).encode() * 9})
        (zipped if name.endswith("zip") else tar)(
            tmp_path / "raw" / name, source, **({} if name.endswith("zip") else {"mode": "w:gz"})
        )
    with Raw(tmp_path / "raw", tmp_path / "out") as raw:
        assert seen(raw) == {"0.txt": b"0" * 9, "a/1.txt": b"1" * 9, "2.txt": b"2" * 9, "3.txt": b"3" * 9}


KILLED = """
import os, signal, sys
from pathlib import Path
from xllm.corpora import archives, raw
add, left = archives.Copies.add, int(sys.argv[3])
def dying(self, *member):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return add(self, *member)
archives.Copies.add = dying
with raw.Raw(Path(sys.argv[1]), Path(sys.argv[2])) as tree:
    print(*tree.names((".txt",)))
"""


def test_killed_while_unpacking_and_begun_again_is_uninterrupted(tmp_path):
    source = folder(tmp_path / "source", {f"{n}.txt": os.urandom(n * 100) for n in range(6)})
    for part in (0, 3):
        tar(tmp_path / "raw" / f"{part}.tgz", source, [f"{part + n}.txt" for n in range(3)], "w:gz")
    with Raw(tmp_path / "raw", tmp_path / "whole") as raw:
        whole = {name: raw.media(name).replace("whole", "cut") for name in raw.names((".txt",))}
    for left in (0, 2, 4):
        command = [sys.executable, "-c", KILLED, tmp_path / "raw", tmp_path / "cut", str(left)]
        assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "cut" / ".index.sqlite").exists()
    done = (tmp_path / "cut" / "unpacked" / "0.tgz.tar").stat().st_mtime_ns
    with Raw(tmp_path / "raw", tmp_path / "cut") as raw:
        assert {name: raw.media(name) for name in raw.names((".txt",))} == whole
    assert (tmp_path / "cut" / "unpacked" / "0.tgz.tar").stat().st_mtime_ns == done, "what was done was left"
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_lines_and_marks(tmp_path):
    root = folder(
        tmp_path / "raw",
        {"x.txt": b"\xef\xbb\xbfone\r\n\r\ntwo\xff\nthree", "y.txt": b"\xef\xbb\xbf", "z.txt": b"a\rb\n"},
    )
    tar(tmp_path / "x.tar", root)
    for place in (root, tmp_path / "x.tar"):
        with Raw(place, tmp_path / "out") as raw:
            assert list(raw.lines("x.txt")) == ["one", "", "two\udcff", "three"]
            assert list(raw.lines("y.txt")) == [] and list(raw.lines("z.txt")) == ["a\rb"]


def test_one_process_at_a_time(tmp_path):
    with Raw(folder(tmp_path / "raw"), tmp_path / "out") as raw, Raw(raw.root, raw.work) as other:
        assert raw.find("nothing") == []
        with pytest.raises(XLLMError, match="out: cannot keep its index: database is locked"):
            other.find("nothing")


def test_lookup_is_made_once_and_the_first_of_equal_keys_counts(tmp_path):
    root = folder(tmp_path / "raw")

    def broken():
        yield "a", "lost"
        raise KeyError

    with Raw(root, tmp_path / "out") as raw:
        with pytest.raises(KeyError):
            raw.lookup("x", broken)
        value = raw.lookup("x", lambda: [("a", "1"), ("b", "\udcff中"), ("a", "2")])
        other = raw.lookup("y", lambda: [("b", "3")])
        again = raw.lookup("x", lambda: pytest.fail("made again"))
        assert [value(key) for key in ("a", "b", "c", "\udcff")] == ["1", "\udcff中", None, None]
        assert other("a") is None and other("b") == "3" and again("a") == "1"
    assert list((tmp_path / "out").iterdir()) == []


def test_files_in_files(tmp_path):
    with Raw(folder(tmp_path / "raw"), tmp_path / "out") as raw:
        for contents in ([("p/1.bin", b"one"), ("p/2.bin", b"")], None):
            raw.unpack("p", (lambda c=contents: c) if contents else lambda: pytest.fail("made again"))
            assert open_any(raw.media("p/1.bin")).read() == b"one" and open_any(raw.media("p/2.bin")).read() == b""
            assert list(raw.names((".bin",))) == ["p/1.bin", "p/2.bin"]
    assert set(tree(tmp_path / "out")) == {"unpacked/p.tar"}


def test_json_one_item_at_a_time(tmp_path):
    data = {"list": [{"a": 1.5}, {"a": "中"}], "object": {"x": 1, "y": [2]}}
    whole = json.dumps(data).encode()
    folder(
        tmp_path / "raw",
        {"x.json": b"\xef\xbb\xbf" + whole, "cut.json": whole[:30], "latin.json": b'{"list": ["\xff"]}'},
    )
    with Raw(tmp_path / "raw", tmp_path / "out") as raw:
        assert list(items(raw, "x.json", "list.item")) == data["list"] and list(items(raw, "x.json", "none.item")) == []
        assert list(pairs(raw, "x.json")) == list(data.items())
        assert list(pairs(raw, "x.json", "object")) == [("x", 1), ("y", [2])]
        read = items(raw, "cut.json", "list.item")
        assert next(read) == {"a": 1.5}
        for damaged in (read, items(raw, "latin.json", "list.item"), pairs(raw, "cut.json")):
            with pytest.raises(XLLMError, match=r"(cut|latin)\.json: damaged JSON"):
                list(damaged)
