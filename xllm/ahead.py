"""What comes next is made while what came before is used: a generator in a thread of its own."""

from collections.abc import Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
WAIT = 0.1  # seconds between two looks whether anybody still wants the next one


def ahead(items: Iterator[T], size: int) -> Iterator[T]:
    """The same `items`, at most `size` of them made before they are asked for; what that raises is raised here.

    The thread ends when the items do, or when nobody asks any more.
    """
    made: Queue[tuple[T | None, BaseException | None]] = Queue(size)
    over = Event()

    def put(item: T | None, error: BaseException | None = None) -> bool:
        while not over.is_set():
            try:
                made.put((item, error), timeout=WAIT)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None, StopIteration())
        except BaseException as error:
            put(None, error)

    Thread(target=work, daemon=True).start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        over.set()
