"""The files in an archive, one after another: tar, tar.gz, tgz, tar.bz2, tar.xz or zip, and archives in archives.

Members of plain tars and stored members of zips are told by their place; what is compressed is copied once, into an
uncompressed tar. A member's name is a name only: it never says where anything is written.
"""

import bz2
import gzip
import io
import logging
import lzma
import os
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from xllm.errors import XLLMError

ARCHIVE = re.compile(r".+\.(?:tar|tgz|tar\.gz|tar\.bz2|tar\.xz|zip)", re.IGNORECASE | re.DOTALL)
MAX_RATIO, GRACE = 100, 64 << 20  # a bomb: more than 100 times the archive's size, and 64 MiB
MAX_DEPTH = 3  # archives within archives
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError)
_DECOMPRESS = {".tar": None, ".tgz": gzip.open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

Member = tuple[str, str, int, int]  # name in the tree, file that holds its bytes, their offset and number

logger = logging.getLogger(__name__)


class AlreadyThere(Exception):
    """What the archive holds lies unpacked beside it."""


class Copies:
    """An uncompressed tar in the making, of what cannot be read where it lies. It gets its name when it is whole."""

    def __init__(self, path: Path):
        self.path, self._temporary = path, path.with_name(f".{path.name}.tmp")
        self._tar: tarfile.TarFile | None = None

    def add(self, name: str, data: BinaryIO, size: int) -> Member:
        """Copy `size` bytes."""
        if self._tar is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._tar = tarfile.open(self._temporary, "w")
        info = tarfile.TarInfo(name)
        info.size = size
        self._tar.addfile(info, data)
        self._tar.members = []
        return name, str(self.path), self._tar.offset - -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, size

    def finish(self) -> None:
        if self._tar is not None:
            self._tar.close()
            os.replace(self._temporary, self.path)

    def abandon(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None
            self._temporary.unlink(missing_ok=True)


def members(path: Path, prefix: str, copies: Copies, beside: Path | None) -> Iterator[Member]:
    """The regular files in the archive `path`, under `prefix`; what was compressed is added to `copies`.

    What is left out is told as a warning. Raises AlreadyThere when the first file lies in the folder `beside`, and
    XLLMError when the archive is damaged or a bomb.
    """
    archive = _Archive(path, copies, beside)
    try:
        with path.open("rb") as file:
            yield from archive.walk(file, path.name, prefix, 1, True)
    except _DAMAGE as error:
        raise XLLMError(f"{path}: damaged archive ({error or type(error).__name__}); download it again") from None
    except OSError as error:
        raise XLLMError(f"{path}: cannot be read: {error.strerror or error}") from None
    for reason, count in archive.refused.items():
        logger.warning("%s: %d of its members left out: %s", path, count, reason)


class _Budget:
    """Counts what comes out of an archive's compression. Raises XLLMError when it is too much to be honest."""

    def __init__(self, path: Path):
        self.path, self.left = path, MAX_RATIO * path.stat().st_size + GRACE

    def guard(self, stream: BinaryIO) -> "_Guarded":
        return _Guarded(stream, self)

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise XLLMError(f"{self.path}: refused: unpacks to more than {MAX_RATIO} times its size (a bomb?)")


class _Guarded(io.RawIOBase):
    def __init__(self, stream: BinaryIO, budget: _Budget):
        self._stream, self._budget = stream, budget

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if 0 <= size < 1 << 20 else 1 << 20)
        self._budget.take(len(data))
        return data


class _Archive:
    def __init__(self, path: Path, copies: Copies, beside: Path | None):
        self.path, self.copies, self.beside = path, copies, beside
        self.budget, self.refused = _Budget(path), Counter()

    def walk(self, file: BinaryIO, name: str, prefix: str, depth: int, in_place: bool) -> Iterator[Member]:
        """`in_place`: `file` is the archive on disk, not a stream out of another one."""
        if depth > MAX_DEPTH:
            self._refuse(f"archives more than {MAX_DEPTH} deep")
        elif name.lower().endswith(".zip"):
            yield from self._zip(file, prefix, depth, in_place)
        else:
            decompress = _DECOMPRESS[os.path.splitext(name.lower())[1]]
            if decompress is None and in_place:
                yield from self._tar(tarfile.open(fileobj=file, mode="r:"), prefix, depth, True)
            else:
                stream = self.budget.guard(decompress(file) if decompress else file)
                yield from self._tar(tarfile.open(fileobj=stream, mode="r|"), prefix, depth, False)

    def _tar(self, tar: tarfile.TarFile, prefix: str, depth: int, in_place: bool) -> Iterator[Member]:
        while (member := tar.next()) is not None:
            tar.members = []  # it would remember a million of them
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                self._refuse("links and special files")
            elif (name := self._name(member.name, member.size, prefix)) is not None:
                data = tar.extractfile(member)
                if ARCHIVE.fullmatch(name):
                    yield from self._nested(data, name, depth)
                elif in_place:
                    yield name, str(self.path), member.offset_data, member.size
                else:
                    yield self.copies.add(name, data, member.size)
        if in_place:
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError("something else where a member should begin")

    def _zip(self, file: BinaryIO, prefix: str, depth: int, in_place: bool) -> Iterator[Member]:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                if info.flag_bits & 1:
                    self._refuse("encrypted files")
                elif info.compress_type not in _ZIP_METHODS:
                    self._refuse("files compressed in an unknown way")
                elif stat.S_ISLNK(info.external_attr >> 16):
                    self._refuse("links and special files")
                elif (name := self._name(info.filename, info.file_size, prefix)) is not None:
                    if ARCHIVE.fullmatch(name):
                        with archive.open(info) as data:
                            yield from self._nested(self.budget.guard(data), name, depth)
                    elif in_place and info.compress_type == zipfile.ZIP_STORED:
                        file.seek(info.header_offset + 26)
                        offset = 30 + sum(int.from_bytes(file.read(2), "little") for _ in range(2))
                        yield name, str(self.path), info.header_offset + offset, info.file_size
                    else:
                        with archive.open(info) as data:
                            yield self.copies.add(name, self.budget.guard(data), info.file_size)

    def _nested(self, data: BinaryIO, name: str, depth: int) -> Iterator[Member]:
        """The members of an archive in an archive; a zip is copied aside, since its table stands at its end."""
        folder = os.path.dirname(name)
        if not name.lower().endswith(".zip"):
            yield from self.walk(data, name, folder, depth + 1, False)
            return
        self.copies.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.copies.path.parent) as aside:
            while block := data.read(1 << 20):
                aside.write(block)
            yield from self.walk(aside, name, folder, depth + 1, False)

    def _name(self, member: str, size: int, prefix: str) -> str | None:
        """Where the member stands in the tree; None when its name climbs out of it or is not UTF-8."""
        parts = [part for part in member.split("/") if part not in ("", ".")]
        if member.startswith("/") or ".." in parts or not parts:
            return self._refuse("names that lead out of the archive")
        name = "/".join([*filter(None, [prefix]), *parts])
        try:
            name.encode()
        except UnicodeEncodeError:
            return self._refuse("names that are not UTF-8")
        if self.beside:
            self._look(self.beside / name, size)
        return name

    def _look(self, path: Path, size: int) -> None:
        """Raises AlreadyThere when the first member, of that size, lies there."""
        self.beside = None
        if path.is_file() and path.stat().st_size == size:
            raise AlreadyThere

    def _refuse(self, reason: str) -> None:
        self.refused[reason] += 1
