"""A corpus as it was downloaded, seen as one tree of files: unpacked, or still in archives, or both.

An archive's members stand where unpacking it on the spot would put them, but nothing is ever unpacked there
(`archives.py`).
"""

import fnmatch
import io
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from xllm.corpora.archives import ARCHIVE, AlreadyThere, Copies, Member, members
from xllm.errors import XLLMError
from xllm.members import open_any, reference

_TABLES = """
PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; PRAGMA locking_mode = EXCLUSIVE;
BEGIN EXCLUSIVE;
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, archive TEXT, offset INTEGER, length INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pairs (lookup TEXT, key BLOB, value BLOB, PRIMARY KEY (lookup, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (what BLOB PRIMARY KEY) WITHOUT ROWID;
COMMIT;
"""


class Unusable(XLLMError):
    """Why a file of the corpus cannot be used: the reason that a report counts it under."""


def near(name: str, *places: str) -> tuple[str, ...]:
    """`places` as seen from the folder of the file `name`, then from each folder above it."""
    folders = name.split("/")[:-1]
    return tuple("/".join([*folders[:depth], place]) for depth in range(len(folders), -1, -1) for place in places)


class Raw:
    """A corpus in a folder, or one archive. Names are relative to it, with `/` between folders.

    Archives are opened when something is not found without them; one whose first file already lies unpacked beside it
    is left alone. `work` keeps an index until `close`, and for good an `unpacked/` folder with what was compressed.
    """

    def __init__(self, root: Path, work: Path):
        """Raises XLLMError when there is no such folder or archive."""
        self.root, self.work = Path(os.path.realpath(root)), Path(work)
        if not self.root.exists():
            raise XLLMError(f"{root}: no such folder; `xllm prepare-data --list` says where to get corpora")
        if not self.root.is_dir() and not ARCHIVE.fullmatch(self.root.name):
            raise XLLMError(f"{root}: neither a folder nor an archive (tar, tar.gz, tgz, zip)")
        self._folder = str(self.root) if self.root.is_dir() else None
        self._index: sqlite3.Connection | None = None
        self._mounted = False
        self._real = lru_cache(4096)(os.path.realpath)

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def find(self, pattern: str) -> list[str]:
        """Names, sorted, of files whose last parts match `pattern`, at most three folders down."""
        depths = [f"{'*/' * depth}{pattern}" for depth in range(4)] if self._folder else ()
        found = {str(path.relative_to(self.root)) for glob in depths for path in self.root.glob(glob) if path.is_file()}
        if not found:
            query = "SELECT name FROM files WHERE name GLOB ? OR name GLOB ?"
            parts = pattern.split("/")
            for (name,) in self._archives().execute(query, (pattern, f"*/{pattern}")):
                own = name.split("/")[-len(parts) :]
                if len(own) == len(parts) and all(map(fnmatch.fnmatchcase, own, parts)):
                    found.add(name)
        return sorted(found)

    def one(self, pattern: str) -> str:
        """The one file that matches. Raises XLLMError when there is none, or more than one."""
        found = self.find(pattern)
        if len(found) != 1:
            what = f"no {pattern}" if not found else f"{len(found)} files {pattern}, such as {found[0]} and {found[1]}"
            raise XLLMError(f"{self.root}: holds {what}; give the folder of one corpus as it was downloaded")
        return found[0]

    def names(self, suffixes: tuple[str, ...]) -> Iterator[str]:
        """Names of all files that end so, in order: those in folders, then those in archives."""
        for folder, names in self._walk():
            yield from (os.path.normpath(f"{folder}/{name}") for name in names if name.endswith(suffixes))
        for (name,) in self._archives().execute("SELECT name FROM files ORDER BY name"):
            if name.endswith(suffixes):
                yield name

    def media(self, *names: str) -> str:
        """The path that manifests name a file by: the first of `names` that is there.

        Raises Unusable when none is, or only one that lies outside the corpus.
        """
        reason = "no such file"
        for name in names if self._folder else ():
            path = f"{self._folder}/{name}"
            with suppress(OSError, ValueError):
                mode = os.lstat(path).st_mode
                real = os.path.realpath(path) if stat.S_ISLNK(mode) else self._real(os.path.dirname(path))
                if real != self._folder and not real.startswith(self._folder + "/"):
                    reason = "link out of the corpus"
                elif stat.S_ISREG(mode) or os.path.isfile(real):
                    return path
        index = self._archives()
        for name in names:
            query = "SELECT archive, offset, length FROM files WHERE name = ?"
            if found := index.execute(query, (name.encode(errors="replace").decode(),)).fetchone():
                return reference(*found)
        raise Unusable(reason)

    def open(self, name: str) -> BinaryIO:
        """The file, to read and to seek in, after its byte order mark if it has one. Raises XLLMError."""
        try:
            file = open_any(self.media(name))
        except Unusable as error:
            raise XLLMError(f"{self.root}/{name}: {error}") from None
        except OSError as error:
            raise XLLMError(f"{self.root}/{name}: cannot be read: {error.strerror}") from None
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            file.read(3)
        return file

    def lines(self, name: str) -> Iterator[str]:
        """Lines without their ends; bytes that are not UTF-8 are kept as surrogates."""
        with io.TextIOWrapper(self.open(name), encoding="utf-8", errors="surrogateescape", newline="\n") as text:
            for line in text:
                yield line.rstrip("\r\n")

    def lookup(self, name: str, pairs: Callable[[], Iterable[tuple[str, str]]]) -> Callable[[str], str | None]:
        """A mapping on disk, for what memory cannot hold: made of `pairs` once; of equal keys the first counts."""

        def fill(index: sqlite3.Connection) -> None:
            rows = ((name, _bytes(key), _bytes(value)) for key, value in pairs())
            index.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", rows)

        def value(key: str) -> str | None:
            query = "SELECT value FROM pairs WHERE lookup = ? AND key = ?"
            found = self._database().execute(query, (name, _bytes(key))).fetchone()
            return found and found[0].decode(errors="surrogatepass")

        self._once(f"lookup {name}", fill)
        return value

    def unpack(self, name: str, contents: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        """Files that the file `name` holds in a way of its own: names and bytes, in the tree from now on."""

        def copied(copies: Copies) -> Iterator[Member]:
            return (copies.add(each, io.BytesIO(data), len(data)) for each, data in contents())

        self._once(f"unpack {name}", lambda index: self._add(index, name, copied))

    def archives(self) -> list[str]:
        """Names of the archives themselves, sorted."""
        if self._folder is None:
            return [self.root.name]
        found = ((folder, name) for folder, names in self._walk() for name in names if ARCHIVE.fullmatch(name))
        return [os.path.normpath(f"{folder}/{name}") for folder, name in found]

    def close(self) -> None:
        """Forget the index; what was unpacked stays."""
        if self._index is not None:
            self._index.close()
            self._index, self._mounted = None, False
        for file in self.work.glob(".index.sqlite*"):
            file.unlink()

    def _walk(self) -> Iterator[tuple[str, list[str]]]:
        """Folders of the corpus with the names of their files, all sorted; without `work`, should it lie in there."""
        work = os.path.realpath(self.work)
        for folder, folders, names in os.walk(self._folder) if self._folder else ():
            folders[:] = sorted(name for name in folders if os.path.join(folder, name) != work)
            yield os.path.relpath(folder, self._folder), sorted(names)

    def _database(self) -> sqlite3.Connection:
        if self._index is None:
            self.work.mkdir(parents=True, exist_ok=True)
            index = sqlite3.connect(self.work / ".index.sqlite", timeout=0)
            try:
                index.executescript(_TABLES)
            except sqlite3.OperationalError as error:
                index.close()
                raise XLLMError(f"{self.work}: cannot keep its index: {error} (another process at work?)") from None
            self._index = index
        return self._index

    def _once(self, what: str, do: Callable[[sqlite3.Connection], None]) -> None:
        """All of it or nothing, and not again."""
        index, key = self._database(), _bytes(what)
        if index.execute("SELECT 1 FROM done WHERE what = ?", (key,)).fetchone() is None:
            with index:
                do(index)
                index.execute("INSERT INTO done VALUES (?)", (key,))

    def _archives(self) -> sqlite3.Connection:
        """The index, with all members of all archives in it."""
        if not self._mounted:
            for name in self.archives():
                self._once(f"archive {name}", lambda index, name=name: self._mount(index, name))
            self._mounted = True
        return self._database()

    def _mount(self, index: sqlite3.Connection, name: str) -> None:
        path, beside = (self.root / name, self.root) if self._folder else (self.root, None)
        with suppress(AlreadyThere):
            self._add(index, name, lambda copies: members(path, os.path.dirname(name), copies, beside))

    def _add(self, index: sqlite3.Connection, name: str, found: Callable[[Copies], Iterable[Member]]) -> None:
        copies = Copies(self.work / "unpacked" / f"{name}.tar")
        try:
            index.executemany("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?)", found(copies))
            copies.finish()
        except BaseException:
            copies.abandon()
            raise


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
