"""What comes through a pipe can be read once and not sought in: it is kept in a temporary file that has no name.

So nothing is left of it on the disk, however the process ends. Another process that is being spawned may be given it.
"""

import os
import tempfile
from multiprocessing.reduction import DupFd
from typing import BinaryIO

from xllm.errors import MediaError
from xllm.members import Stretch

MAX_BYTES = 16 << 30  # 24 hours of 48 kHz stereo, uncompressed
_BLOCK = 1 << 20


class Spool(Stretch):
    """A file whose bytes were read from a pipe; copies in other processes have places of their own."""

    def __init__(self, file: BinaryIO, length: int, name: str):
        self.name, self._file = name, file
        self._start, self._length, self._place = 0, length, 0

    def again(self) -> "Spool":
        """The same bytes from their beginning, read apart from this one."""
        return _reader(os.dup(self._file.fileno()), self._length, self.name)

    def __reduce__(self):
        return _received, (DupFd(self._file.fileno()), self._length, self.name)


def _reader(descriptor: int, length: int, name: str) -> Spool:
    return Spool(open(descriptor, "rb", buffering=0), length, name)


def _received(sent, length: int, name: str) -> Spool:
    return _reader(sent.detach(), length, name)


def spool(pipe: BinaryIO, name: str) -> Spool:
    """All that comes through `pipe`. Raises MediaError when that is nothing, too much, or more than the disk holds."""
    length = 0
    try:
        held = tempfile.TemporaryFile()
        while block := pipe.read(_BLOCK):
            length += len(block)
            if length > MAX_BYTES:
                raise MediaError(f"{name}: more than {MAX_BYTES >> 30} GiB came through the pipe; give a file")
            held.write(block)
        held.flush()
    except OSError as error:
        where = f"cannot be kept in {tempfile.gettempdir()} (TMPDIR names another folder)"
        raise MediaError(f"{name}: {where}: {error.strerror}") from None
    if not length:
        raise MediaError(f"{name}: nothing came through the pipe")
    return Spool(held, length, name)
