"""Files are whole or absent, whatever their names; errors say which file."""

import errno
import os

import pytest

from xllm.files import remove_unfinished, replacing, write_atomic


def test_the_longest_name_is_written_and_nothing_is_left(tmp_path):
    name = "n" * 255
    write_atomic(tmp_path / "new" / name, "text")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_a_failure_leaves_the_old_file_and_names_it(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a.txt") as out:
        out.write("new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    with pytest.raises(OSError) as caught:
        write_atomic(tmp_path / ("n" * 256), "text")
    assert caught.value.filename == str(tmp_path / ("n" * 256)) and len(list(tmp_path.iterdir())) == 1


def test_unfinished_files_are_removed_and_no_others(tmp_path):
    (tmp_path / ".xllm-00ff.tmp").write_text("")
    (tmp_path / "mine.tmp").write_text("")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tmp"]
