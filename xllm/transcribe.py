"""From files to transcripts: decode, find speech, batch by length across files, transcribe, put together in order."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from xllm.ahead import ahead
from xllm.context import ContextReader
from xllm.errors import MediaError, XLLMError
from xllm.media import is_pipe, rereadable, stream_audio
from xllm.segment import Piece, cut, find_speech
from xllm.timeline import Lost
from xllm.transcript import Recording, Segment, Token, Transcript

POOL = 8  # batches' worth of pieces that the model sees at once, to sort them by length


@dataclass(frozen=True)
class Source:
    """One input: an id, the path to show, and the open file when it is not read from the path.

    `pictures` and `caption` are of what is spoken about; `track` is one of several audio tracks, from 1.
    """

    id: str
    path: str
    file: BinaryIO | None = None
    pictures: tuple[str | BinaryIO, ...] = ()
    caption: str | None = None
    track: int | None = None

    def rereadable(self) -> "Source":
        """The same, to be read several times: what comes through a pipe is kept. Raises MediaError."""
        return replace(self, file=rereadable(self.path)) if self.file is None and is_pipe(self.path) else self

    def sound(self, lost: list[Lost] | None = None) -> Iterator[Tensor]:
        """The decoded sound from its beginning; `lost` gets what damage has cost."""
        if self.file is not None:
            self.file.seek(0)
        return stream_audio(self.file or Path(self.path), track=self.track, lost=lost)


@dataclass
class _Job:
    """An input on its way: pieces still out, segments done, or the error that ended it."""

    source: Source
    sight: Any = None
    duration: float = 0.0
    lost: list[Lost] = field(default_factory=list)
    closed: bool = False
    waiting: int = 0
    segments: dict[int, Segment] = field(default_factory=dict)
    error: XLLMError | None = None

    def outcome(self, engine: str) -> Recording | XLLMError:
        if self.error is not None:
            return self.error
        ordered = [self.segments[i] for i in sorted(self.segments)]
        written = [segment for segment in ordered if segment.text]
        lost = [(round(start, 3), round(end, 3)) for start, end in self.lost]
        unclear = [(segment.start, segment.end) for segment in ordered if not segment.text and segment.score < 1]
        return Recording(self.source.id, self.source.path, round(self.duration, 3), engine, written, lost, unclear)


def context_kinds(sources: Iterable[Source]) -> set[str]:
    """What is beside the speech of any of the sources: `images`, `captions`."""
    return {kind for s in sources for kind, given in (("images", s.pictures), ("captions", s.caption)) if given}


def transcribe(
    sources: Iterable[Source], model, engine: str = "xllm", batch_size: int = 8
) -> Iterator[tuple[Source, Recording | XLLMError]]:
    """Yield (source, its Recording or the error that prevented it) in the order of the sources.

    `model` is an XLLM. Batches mix pieces of several inputs; an input that fails does not disturb the others. While a
    GPU transcribes some pieces the next ones are read: memory is bounded by twice `POOL * batch_size` pieces. Raises
    ConfigError when the model lacks the engine. What is beside speech and cannot be used is a warning, once.
    """
    jobs: deque[_Job] = deque()
    pool: list[tuple[_Job, int, Piece]] = []
    read_context = ContextReader(model, engine)

    def finished() -> Iterator[tuple[Source, Recording | XLLMError]]:
        while jobs and jobs[0].closed and (jobs[0].error or not jobs[0].waiting):
            job = jobs.popleft()
            yield job.source, job.outcome(engine)

    read = _read(sources)
    if model.device.type != "cpu":  # where reading and transcribing share their cores, a thread only disturbs
        read = ahead(read, POOL * batch_size)
    for job, number, piece in read:
        if number == 0:
            jobs.append(job)
            if job.error is None:
                try:
                    job.sight = read_context(job.source.pictures, job.source.caption)
                except MediaError as error:
                    job.error = error
        if piece is None:
            job.closed = True
            yield from finished()
        elif job.error is None:
            job.waiting += 1
            pool.append((job, number, piece))
            if len(pool) >= POOL * batch_size:
                _work(pool, model, engine, batch_size)
    if pool:
        _work(pool, model, engine, batch_size)
    yield from finished()


def _read(sources: Iterable[Source]) -> Iterator[tuple[_Job, int, Piece | None]]:
    """Every input's pieces of speech, numbered from 0, and None after its last one or its error."""
    for source in sources:
        job, number = _Job(source), 0
        try:
            source = source.rereadable()
            speech, job.duration = find_speech(source.sound(job.lost))
            for piece in cut(source.sound(), speech):
                yield job, number, piece
                number += 1
        except XLLMError as error:
            job.error = error
        yield job, number, None


def _work(pool: list[tuple[_Job, int, Piece]], model, engine: str, batch_size: int) -> None:
    """Transcribe all pieces of the pool and empty it."""
    waves, sights = [piece.wave for _, _, piece in pool], [job.sight for job, _, _ in pool]
    for (job, number, piece), transcript in zip(pool, model.transcribe(waves, engine, sights, batch_size), strict=True):
        job.segments[number] = place(transcript, piece)
        job.waiting -= 1
    pool.clear()


def place(transcript: Transcript, piece: Piece) -> Segment:
    """Move a piece's transcript to its time in the recording; tokens stay within the speech that was found."""

    def clamp(seconds: float) -> float:
        return round(min(max(piece.offset + seconds, piece.speech.start), piece.speech.end), 3)

    tokens = [Token(t.text, clamp(t.start), clamp(t.end), round(t.score, 4)) for t in transcript.tokens]
    return Segment(
        round(piece.speech.start, 3), round(piece.speech.end, 3), transcript.text, round(transcript.score, 4), tokens
    )


def devices_run(
    sources: Sequence[Source], model: str, devices: Sequence[str], engine: str, batch_size: int, **settings: Any
) -> Iterator[tuple[Source, Recording | XLLMError]]:
    """`transcribe` over several devices, one process each; every n-th source to the n-th device, order kept.

    `settings` are attributes of the model.

    Raises XLLMError when a process dies, its model cannot be loaded, or can use nothing of what is beside speech.
    """
    import multiprocessing

    context, kinds = multiprocessing.get_context("spawn"), context_kinds(sources)
    queues = [context.Queue() for _ in devices]
    workers = [
        context.Process(
            target=_worker,
            daemon=True,
            args=(sources[i :: len(devices)], model, device, engine, batch_size, settings, kinds, queues[i]),
        )
        for i, device in enumerate(devices)
    ]
    for worker in workers:
        worker.start()
    try:
        for number, source in enumerate(sources):
            outcome = _receive(queues[number % len(devices)], workers[number % len(devices)])
            yield source, outcome
    finally:
        for worker in workers:
            worker.terminate()


def _receive(queue, worker) -> Recording | XLLMError:
    """The next outcome; warnings on the way to it are handled as this process handles its own."""
    from queue import Empty

    while True:
        try:
            fatal, outcome = queue.get(timeout=1.0)
        except Empty:
            if worker.is_alive():
                continue
            raise XLLMError(f"a decoding process ended with code {worker.exitcode}; try one device") from None
        if isinstance(outcome, logging.LogRecord):
            logging.getLogger(outcome.name).handle(outcome)
            continue
        if fatal:
            raise outcome
        return outcome


class _Warnings(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.put((False, record))


def _worker(
    sources: Sequence[Source],
    model: str,
    device: str,
    engine: str,
    batch_size: int,
    settings: dict[str, Any],
    kinds: set[str],
    queue,
) -> None:
    """One device's share: put every outcome, in order, and warnings as they come."""
    logger = logging.getLogger("xllm")
    logger.handlers, logger.propagate = [_Warnings(queue)], False
    try:
        from xllm.device import resolve_device
        from xllm.model import XLLM

        loaded = XLLM.from_pretrained(model, resolve_device(device))
        for name, value in settings.items():
            setattr(loaded, name, value)
        ContextReader(loaded, engine).require(kinds)
        for _, outcome in transcribe(sources, loaded, engine, batch_size):
            queue.put((False, outcome))
    except XLLMError as error:
        queue.put((True, error))
