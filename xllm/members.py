"""Files inside uncompressed archives, read where they lie: `shards/train-000003.tar:1536:32044`.

After the archive's path stand the offset of the file's bytes and their number, as manifests of speech corpora have long
written it. A member stored in a zip file without compression is such a stretch of bytes, too.
"""

import io
import os
import re
from pathlib import Path

_MEMBER = re.compile(r"(?P<archive>.+\.(?:tar|zip)):(?P<offset>\d{1,18}):(?P<length>\d{1,18})", re.DOTALL)


def reference(archive: str, offset: int, length: int) -> str:
    """How a manifest names `length` bytes at `offset` of an archive."""
    return f"{archive}:{offset}:{length}"


def split_reference(path: str) -> tuple[str, int, int] | None:
    """Archive, offset and length; None for the path of a file of its own."""
    found = _MEMBER.fullmatch(path)
    return (found["archive"], int(found["offset"]), int(found["length"])) if found else None


def file_of(path: str) -> str:
    """The file on disk that holds the bytes of `path`."""
    found = split_reference(path)
    return found[0] if found else path


def open_any(path: str) -> io.BufferedReader:
    """The bytes of a file or of a member, to read and to seek in. Raises OSError."""
    found = split_reference(path)
    if found is None:
        return open(path, "rb")
    return io.BufferedReader(Stretch(*found))


class Stretch(io.RawIOBase):
    """A stretch of a file as a file of its own. Raises OSError when the file is shorter than that."""

    def __init__(self, archive: str | Path, offset: int, length: int):
        self.name = reference(str(archive), offset, length)
        self._file = open(archive, "rb", buffering=0)
        self._start, self._length, self._place = offset, length, 0
        if os.fstat(self._file.fileno()).st_size < offset + length:
            self._file.close()
            raise OSError(None, "the archive ends before this member")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        if place < 0:
            raise OSError(None, "a place before the start")
        self._place = place
        return place

    def readinto(self, buffer) -> int:
        count = max(0, min(len(buffer), self._length - self._place))
        data = os.pread(self._file.fileno(), count, self._start + self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
