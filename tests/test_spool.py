"""Pipes: read once, then read again and sought in, also by another process; nothing is left of them."""

import io
import multiprocessing
import os
import resource
import tempfile

import pytest
from media_files import put_contents

from xllm import spool as module
from xllm.errors import MediaError
from xllm.spool import spool


def pipe(data: bytes) -> io.BufferedReader:
    """The end of a pipe that gives `data`, which must be short enough for the pipe to hold."""
    out, into = os.pipe()
    os.write(into, data)
    os.close(into)
    return open(out, "rb")


def test_what_was_read_can_be_read_again_and_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pipe(b"0123456789") as file:
        kept = spool(file, "talk")
    assert kept.name == "talk" and not list(tmp_path.iterdir())
    assert kept.read() == b"0123456789" and kept.seek(-3, os.SEEK_END) == 7 and kept.read(2) == b"78"


def test_another_process_reads_it_from_its_beginning():
    with pipe(b"0123456789") as file:
        kept = spool(file, "talk")
    kept.read(5)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=put_contents, args=(kept, queue))
    process.start()
    assert queue.get(timeout=60) == ("talk", b"0123456789")
    process.join()
    assert kept.read() == b"56789"


def test_nothing_or_too_much_is_said(monkeypatch):
    with pytest.raises(MediaError, match="talk: nothing came through"):
        spool(io.BytesIO(), "talk")
    monkeypatch.setattr(module, "MAX_BYTES", 9)
    assert spool(io.BytesIO(b"012345678"), "talk").read() == b"012345678"
    with pytest.raises(MediaError, match="talk: more than"):
        spool(io.BytesIO(b"0123456789"), "talk")


def test_a_full_disk_is_said():
    """Which takes a part of what is written, and then no more."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert len(spool(io.BytesIO(bytes(4096)), "talk").read()) == 4096
        with pytest.raises(MediaError, match="talk: cannot be kept in .*TMPDIR.*File too large"):
            spool(io.BytesIO(bytes(4097)), "talk")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
