"""The one way from rows to rows: chunk by chunk, in order, counted, and resumed where it was killed.

A chunk is the unit of work: what a step makes of it depends on nothing else. So any number of processes or machines
write the same bytes, and a run that was killed goes on at its last chunk on disk as if nothing had happened.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from xllm.errors import ConfigError
from xllm.files import write_atomic
from xllm.steps.rows import Dropped, Report, map_media, relative_to
from xllm.steps.seen import Seen

CHUNK = 256  # rows
COMMIT = 1.0  # seconds between commits; each waits for the disk

Row = dict[str, Any]
Made = list[Row | list[Row] | Dropped]  # of each input: one row, several, or none


class Step(Protocol):
    """What a step does to the rows of a chunk: for each, what becomes of it. It must not depend on other chunks."""

    def __call__(self, rows: list[Row]) -> Made: ...


Mapper = Callable[[Step | None, Iterator[list[Row | Dropped]]], Iterator[Made]]


def apply(step: Step | None, chunk: list[Row | Dropped]) -> Made:
    """The step on those rows of a chunk that have not been dropped before."""
    if step is None:
        return chunk
    made = iter(step([row for row in chunk if not isinstance(row, Dropped)]))
    return [row if isinstance(row, Dropped) else next(made) for row in chunk]


def serial(step: Step | None, chunks: Iterator[list[Row | Dropped]]) -> Iterator[Made]:
    """Chunk after chunk, in this process."""
    return (apply(step, chunk) for chunk in chunks)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sidecar(out: Path, kind: str) -> Path:
    """`train.report.json` beside `train.jsonl`, and the like."""
    return out.with_name(out.name.removesuffix(".jsonl") + f".{kind}")


def run(
    source: Callable[[], Iterable[Row | Dropped]],
    out: Path,
    about: dict[str, Any],
    step: Step | None = None,
    *,
    unique: Callable[[Row], str | None] | None = None,
    limit: int | None = None,
    chunk: int | None = None,
    mapper: Mapper = serial,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Write the manifest `out` from the rows of `source` through `step`; what is left out, and counts, stand beside it.

    `source` gives the same rows whenever it is called. `about` says what is made of what: a manifest that is there and
    was made so is left as it is, a run that was stopped goes on. Of rows with the same `unique` key only the first is
    kept. A chunk has CHUNK rows unless told otherwise. Raises ConfigError when `out` is something else, or another
    process is at it.
    """
    about = about | ({"limit": limit} if limit is not None else {})
    work = work_folder(out)
    if (report := finished(out, about)) is None:
        work.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(work / "lock", timeout=0), closing(_Writer(out, work, about, unique)) as writer:
                rows = iter(() if writer.done else islice(source(), writer.report.inputs, limit))
                chunks = iter(lambda: list(islice(rows, chunk or CHUNK)), [])
                ids: list[list[str]] = []  # of the chunks on their way
                for made in mapper(step, _noting(chunks, ids)):
                    writer.write(made, ids.pop(0))
                    if progress:
                        progress(writer.report)
                writer.finish()
                report = writer.report
        except Timeout:
            raise ConfigError(f"{out}: another process is writing it") from None
        except Exception as error:
            if isinstance(error, OSError) and error.filename is None:  # a full disk, which names no file
                error.filename = str(out)
            if not (work / "state.json").exists():  # it failed before there was anything to go on from
                shutil.rmtree(work, ignore_errors=True)
            raise
    shutil.rmtree(work, ignore_errors=True)
    return report


def work_folder(out: Path) -> Path:
    """Where a manifest is in the making, and what a step needs on its way; gone when the manifest is there."""
    return out.with_name(f".{out.name}.work")


def finished(out: Path, about: dict[str, Any]) -> Report | None:
    """The report of a manifest that is there. Raises ConfigError when it is another one than `about` says."""
    if not out.exists():
        return None
    path = sidecar(out, "report.json")
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        report = Report(**{key: kept[key] for key in asdict(Report())})
    except (OSError, ValueError, LookupError, TypeError):
        raise ConfigError(f"{out}: is there, and no report beside it says how; move it away") from None
    if kept["made"] != json.loads(json.dumps(about)):
        differs = sorted(key for key in {*about, *kept["made"]} if about.get(key) != kept["made"].get(key))
        raise ConfigError(f"{out}: is there, made otherwise ({', '.join(differs)}; see {path.name}); delete or move it")
    return report


def _noting(chunks: Iterator[list[Row | Dropped]], ids: list[list[str]]) -> Iterator[list[Row | Dropped]]:
    for chunk in chunks:
        ids.append([row.id if isinstance(row, Dropped) else str(row.get("id")) for row in chunk])
        yield chunk


class _Writer:
    """The manifest in the making: rows, what was left out, the set of keys, and how far all three have come."""

    def __init__(self, out: Path, work: Path, about: dict, unique: Callable[[Row], str | None] | None):
        self.out, self.work, self.about, self.unique = out, work, about, unique
        self.report, sizes, self.done = Report(), {"rows": 0, "dropped": 0}, False
        if (state := work / "state.json").exists():
            kept = json.loads(state.read_text(encoding="utf-8"))
            if kept["made"] != json.loads(json.dumps(about)):
                raise ConfigError(f"{out}: was begun otherwise; delete {work} to begin again")
            self.report, sizes, self.done = Report(**kept["report"]), kept["sizes"], kept["done"]
        self._files = {}
        for name, size in sizes.items() if not self.done else ():
            (work / name).touch()
            self._files[name] = (work / name).open("r+b")
            self._files[name].truncate(size)
            self._files[name].seek(size)
        self._seen = Seen(work / "seen.sqlite", self.report.inputs) if unique and not self.done else None
        self._relative = relative_to(out.parent)
        self._encode = json.JSONEncoder(ensure_ascii=False).encode
        self._committed = time.monotonic()

    def write(self, made: Made, ids: list[str]) -> None:
        """Add what became of one chunk, and commit when it is time."""
        lines: list[bytes] = []
        for rows, name in zip(made, ids, strict=True):
            dropped = rows if isinstance(rows, Dropped) else self._add(rows, name, lines)
            if dropped is None:
                self.report.kept += 1
            else:
                self.report.count(dropped)
                self._files["dropped"].write((json.dumps(asdict(dropped)) + "\n").encode())
            self.report.inputs += 1
        self._files["rows"].writelines(lines)
        if time.monotonic() - self._committed >= COMMIT:
            self._commit()

    def _add(self, rows: Row | list[Row], name: str, lines: list[bytes]) -> Dropped | None:
        """Add an input's rows, or say why not: all of them or none."""
        own = []
        for row in rows if isinstance(rows, list) else [rows]:
            key = self.unique(row) if self.unique else None
            if key is not None and not self._seen.add(key, self.report.inputs):
                return Dropped(name, "duplicate", key[:200])
            try:
                own.append((self._encode(map_media(row, self._relative)) + "\n").encode())
            except UnicodeEncodeError:
                return Dropped(name, "not UTF-8", failed=True)
        self.report.rows += len(own)
        lines += own
        return None

    def _commit(self) -> None:
        sizes = {}
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            sizes[name] = file.tell()
        if self._seen:
            self._seen.commit()
        state = {"made": self.about, "report": asdict(self.report), "sizes": sizes, "done": self.done}
        write_atomic(self.work / "state.json", json.dumps(state))
        self._committed = time.monotonic()

    def finish(self) -> None:
        """Give everything its name, the manifest last."""
        if not self.done:
            self.report.check()
            report = json.dumps({"made": self.about, **asdict(self.report)}, ensure_ascii=False, indent=1)
            write_atomic(self.work / "report", report + "\n")
            self.done = True
            self._commit()
            self.close()
        for name, kind in (("dropped", "dropped.jsonl"), ("report", "report.json"), ("rows", "jsonl")):
            if (self.work / name).exists():  # unless it had its name before a kill
                os.replace(self.work / name, sidecar(self.out, kind))

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        if self._seen:
            self._seen.close()
