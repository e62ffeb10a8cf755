"""A step on a Ray cluster: Ray Data carries the chunks to its actors and brings back what becomes of them, in order.

Media must lie on a file system that all machines share, under the same paths. Chunks travel pickled, as Ray carries the
step itself: between this process and its own actors only, never from a file or from anybody else.
"""

import logging
import os
import pickle
import threading
from collections.abc import Iterator

from xllm.errors import ConfigError, XLLMError
from xllm.steps.run import Dropped, Made, Mapper, Row, Step, apply, serial

AHEAD = 4  # chunks for each worker that wait for it


def cluster(address: str, workers: int, gpus: float = 0.0) -> Mapper:
    """A mapper over `workers` actors of the cluster at `address`, with `gpus` GPUs (or a share of one) each.

    `address` is as in `ray.init`: `auto`, `host:port`, or `local` for a cluster of this machine alone. Raises
    ConfigError when Ray is not installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it is loud about itself
    try:
        import ray
    except ImportError:
        raise ConfigError("--ray needs Ray: pip install 'xllm-cli[ray]'") from None
    import ray.data

    if not ray.is_initialized():
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--ray {address}: cannot be reached ({str(error).splitlines()[0]})") from None
    _configure(ray.data)

    def mapper(step: Step | None, chunks: Iterator[list[Row | Dropped]]) -> Iterator[Made]:
        if step is None:
            yield from serial(step, chunks)
            return
        queue = _Queue(chunks, AHEAD * workers)
        try:
            source = ray.data.read_datasource(_source(queue.ray), override_num_blocks=1, num_cpus=0)
            made = source.map_batches(
                _Apply,
                fn_constructor_args=(step,),
                batch_size=1,
                num_cpus=1,
                num_gpus=gpus or None,
                compute=ray.data.ActorPoolStrategy(size=workers),
            )
            for row in made.iter_rows():
                out = pickle.loads(row["made"])
                if isinstance(out, XLLMError):
                    raise out
                yield out
            queue.check()
        finally:
            queue.close()

    return mapper


def _configure(data) -> None:
    """One chunk is one block, blocks come back in order, and only what goes wrong is told."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1
    context.target_min_block_size = 1
    context.enable_progress_bars = False


class _Queue:
    """What the source gives, one chunk after the other, read here and not ahead of what the cluster takes."""

    def __init__(self, chunks: Iterator[list[Row | Dropped]], size: int):
        from ray.util.queue import Queue

        self.ray = Queue(size)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._feed, args=(chunks,), daemon=True)
        self._thread.start()

    def _feed(self, chunks: Iterator[list[Row | Dropped]]) -> None:
        try:
            for chunk in chunks:
                self.ray.put(pickle.dumps(chunk))
        except BaseException as error:
            self._error = error
        self.ray.put(None)

    def check(self) -> None:
        """Raise what the source raised."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.ray.shutdown(force=True)


class _Apply:
    """The step in an actor."""

    def __init__(self, step: Step):
        self._step = step

    def __call__(self, batch: dict) -> dict:
        return {"made": [self._made(chunk) for chunk in batch["chunk"]]}

    def _made(self, chunk: bytes) -> bytes:
        try:
            return pickle.dumps(apply(self._step, pickle.loads(chunk)))
        except XLLMError as error:  # as it is: Ray would wrap it in pages of its own
            return pickle.dumps(error)


def _source(queue):
    """Ray Data's view of the queue: a single reader, so that order is the queue's."""
    import pyarrow
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    def read():
        while (chunk := queue.get()) is not None:
            yield pyarrow.table({"chunk": pyarrow.array([chunk], pyarrow.large_binary())})

    class Chunks(Datasource):
        def estimate_inmemory_data_size(self):
            return None

        def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
            nothing_known = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(read, nothing_known)]

    return Chunks()
