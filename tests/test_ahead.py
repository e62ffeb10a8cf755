"""Made ahead is made alike: the same items, errors in their place, and no thread left behind."""

import threading
import time

import pytest

from xllm.ahead import ahead


def test_the_same_items_in_order_and_not_too_many_at_once():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    seen = []
    for number in ahead(items(), 3):
        seen.append(number)
        time.sleep(0.002)
        assert len(made) <= len(seen) + 3 + 1, "three wait, one more is in hand"
    assert seen == list(range(50)) == made
    assert list(ahead(iter(()), 1)) == []


def test_an_error_comes_after_what_was_made_before_it():
    def items():
        yield 1
        raise OSError("the disk is gone")

    found = ahead(items(), 5)
    assert next(found) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(found)


def test_nobody_works_for_one_who_has_left():
    def items():
        while True:
            yield 1

    before = threading.active_count()
    found = ahead(items(), 2)
    assert next(found) == 1 and threading.active_count() == before + 1
    found.close()
    for _ in range(50):
        if threading.active_count() == before:
            return
        time.sleep(0.05)
    pytest.fail("the thread goes on")
