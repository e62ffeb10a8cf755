"""A step in several processes of one machine: chunks go out and come back in order."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from xllm.steps.run import Dropped, Made, Mapper, Row, Step, apply, serial

AHEAD = 2  # chunks for each process that wait or are done, so that none idles; memory is bounded by them

_step: Step | None = None  # of this process


def processes(workers: int, gpus: Sequence[str] = ()) -> Mapper:
    """A mapper over `workers` processes, which take turns at `gpus`; a single one without GPUs is this process."""
    if workers <= 1 and not gpus:
        return serial

    def mapper(step: Step | None, chunks: Iterator[list[Row | Dropped]]) -> Iterator[Made]:
        if step is None:
            yield from serial(step, chunks)
            return
        context = multiprocessing.get_context("spawn")
        begin = (step, context.Value("i", 0), workers, tuple(gpus))
        pool = ProcessPoolExecutor(workers, context, _begin, begin)
        try:
            waiting: deque = deque()
            for chunk in chunks:
                waiting.append(pool.submit(_work, chunk))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    return mapper


def _begin(step: Step, counter, workers: int, gpus: Sequence[str]) -> None:
    """In a new process: its share of the machine, its step, and its end when the one that made it ends."""
    global _step
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
    _step = step
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent closes no queue: its children hold the other end, too, and would wait for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(chunk: list[Row | Dropped]) -> Made:
    return apply(_step, chunk)
