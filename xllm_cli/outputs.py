"""Result files in an output folder: which input has which name, and what is done.

A journal in the folder remembers whose each result is, so that names stay as they are whatever else is transcribed,
and a hash of all that it was made from (the bytes of the inputs, the model's weights, the settings), so that
`--resume` knows what is done whatever it is called by now.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from filelock import FileLock, Timeout

from xllm.errors import ConfigError, MediaError, XLLMError
from xllm.files import remove_unfinished, write_atomic
from xllm.identity import of_media
from xllm.members import file_of
from xllm.transcribe import Source
from xllm_cli.console import note
from xllm_cli.writers import renamed

JOURNAL, LOCK = ".xllm-asr.jsonl", ".xllm-asr.lock"
NAME_BYTES = 255  # longest name of a file on today's disks
_NAMES = ("id", "path", "file", "pictures")  # fields of a source that are no settings


@dataclass
class Result:
    """What an input is to become: a file `name` in the folder. `key` is known where it was asked whether it is done."""

    source: Source
    owner: str
    name: str
    stamp: tuple
    key: str | None = None
    done: bool = False


class Outputs:
    """An output folder, locked for this run. Raises ConfigError when it cannot be written, or another run writes there.

    `form` is the suffix of results; `settings` are what they depend on besides inputs, as plain data.
    """

    def __init__(self, folder: Path, form: str, settings: dict):
        self.folder, self.form, self.settings = folder, form, settings
        self.journal = folder / JOURNAL
        self._lock = FileLock(folder / LOCK, timeout=0)
        self._owners: dict[str, str] = {}  # by name of result
        self._keys: dict[str, str] = {}  # by name of result: of those that are done

    def __str__(self) -> str:
        return f"-o {self.folder}"

    def __enter__(self) -> "Outputs":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self.journal.touch()
        except Timeout:
            raise ConfigError(f"{self}: another run is writing there; wait for it, or choose another folder") from None
        except OSError as error:
            self._lock.release()
            raise ConfigError(
                f"-o {self.folder}: cannot write there: {error.strerror}; choose another folder"
            ) from None
        self._read()
        return self

    def __exit__(self, *_) -> None:
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def _read(self) -> None:
        """The journal's lines; what a crash or a full disk has cut is an input that is not done."""
        for line in self.journal.read_bytes().splitlines():
            try:
                row = json.loads(line)
                name, owner, key = row["output"], row["input"], row["key"]
                inside = not Path(name).is_absolute() and ".." not in Path(name).parts
            except (ValueError, RecursionError, LookupError, TypeError):
                continue
            if not inside:
                continue
            self._owners[name] = owner
            self._keys.pop(name, None)
            if key is not None:
                self._keys[name] = key

    def _note(self, rows: Iterable[tuple[str, str, str | None]]) -> None:
        """Lines of (name, owner, key), each after a line break, which also ends what was cut before. Raises OSError."""
        lines = (json.dumps({"output": name, "input": owner, "key": key}) for name, owner, key in rows)
        data = "".join(f"\n{line}" for line in lines).encode()
        with self.journal.open("ab", buffering=0) as out:
            written = out.write(data)
            while written < len(data):  # a full disk takes a part, and refuses the rest
                written += out.write(data[written:])

    def plan(self, sources: Sequence[Source], resume: bool) -> list[Result]:
        """A result for each source, in order; with `resume` those whose content has been transcribed are done."""
        owners = list(_owners(sources))
        base = _common_folder([owner for source, owner in zip(sources, owners, strict=True) if not source.file])
        names = {owner: name for name, owner in self._owners.items() if name.endswith(f".{self.form}")}
        taken = {names[owner] for owner in owners if owner in names}
        results, new = [], []
        for source, owner in zip(sources, owners, strict=True):
            key = self._key(source) if resume else None
            if owner not in names:
                names[owner] = self._free_name(source, owner, base, key, taken)
                taken.add(names[owner])
                new.append((names[owner], owner, self._keys.get(names[owner])))
            results.append(Result(source, owner, names[owner], _stamp(source), key))
        self._note(new)
        for folder in {(self.folder / result.name).parent for result in results}:
            if folder.is_dir():
                remove_unfinished(folder)
        if resume:
            self._find_done(results, {name for name, _, _ in new})
        return results

    def _free_name(self, source: Source, owner: str, base: str, key: str | None, taken: set[str]) -> str:
        """The shortest end of the input's path, from `base` on, that is neither `taken` nor another file's.

        What has moved is found by its key, and keeps its name.
        """
        names = [_fitting(name, f".{self.form}") for name in _candidates(source, owner, base)]
        for name in names:
            free = not os.path.lexists(self.folder / name) or (key and self._keys.get(name) == key)
            if free and name not in taken and not _is_there(self._owners.get(name, "")):
                if name != names[0]:
                    note(f"{source.path}: its result is {name}, since {names[0]} is another's")
                return name
        raise XLLMError(f"{source.path}: no name for its result is free in {self.folder}")

    def _find_done(self, results: Iterable[Result], new: set[str]) -> None:
        """Those whose key is known: their text is there, or in an equal input's result, or their own of another name.

        Then it is copied to where it belongs, which is in `new`.
        """
        places = {key: name for name, key in self._keys.items() if (self.folder / name).exists()}
        for result in results:
            if result.key not in places:
                continue
            there = self._keys.get(result.name) == result.key and (self.folder / result.name).exists()
            if there and result.name not in new:
                result.done = True
                continue
            try:
                text = (self.folder / places[result.key]).read_text(encoding="utf-8")
                text = renamed(text, self.form, result.source.id, result.source.path)
            except (OSError, ValueError, TypeError):
                continue  # somebody has changed it: the input is transcribed again
            result.done = self.write(result, text) is None

    def _key(self, source: Source) -> str | None:
        """Hash of all that the result depends on; None for an input that cannot be read."""
        about = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in _NAMES}
        try:
            contents = [of_media(source.file or source.path), *map(of_media, source.pictures)]
        except MediaError:
            return None
        whole = json.dumps([self.settings, about, contents], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def write(self, result: Result, text: str, done: bool = True) -> XLLMError | None:
        """Write a result file, then its line in the journal; returns what is in the way, which costs this input.

        One that is not `done`, since its input is damaged, is tried and said again by `--resume`.
        """
        try:
            write_atomic(self.folder / result.name, text)
            unchanged = _stamp(result.source) == result.stamp  # since it was planned: else the text is of other bytes
            key = (result.key or self._key(result.source)) if unchanged and done else None
            self._note([(result.name, result.owner, key)])
        except OSError as error:
            place = error.filename or self.journal
            return XLLMError(f"{result.source.path}: its result cannot be written: {place}: {error.strerror}")
        if key:
            self._keys[result.name] = key
        return None


def _owners(sources: Iterable[Source]) -> Iterator[str]:
    """What makes each input another than the rest: its whole path, and its number if it is given several times.

    Pipes have no names of their own, so what comes through one counts.
    """
    seen: dict[str, int] = {}
    for source in sources:
        owner = f"<pipe> {of_media(source.file)}" if source.file else os.path.abspath(source.path)
        seen[owner] = number = seen.get(owner, 0) + 1
        yield owner if number == 1 else f"{owner}\0{number}"  # which no path holds


def _is_there(owner: str) -> bool:
    """Whether the file that an owner names exists, or the archive that it lies in."""
    path = owner.partition("\0")[0]
    return os.path.lexists(path) or os.path.lexists(file_of(path))


def _common_folder(owners: Sequence[str]) -> str:
    return os.path.commonpath([os.path.dirname(owner) for owner in owners]) if owners else ""


def _candidates(source: Source, owner: str, base: str) -> Iterator[str]:
    """Names for an input's result, without suffix: its path from `base` on, then from ever higher, then with a hash."""
    path, _, number = owner.partition("\0")
    if source.file:
        parts, first = ["stdin" if source.path == "-" else os.path.basename(source.path)], 0
    else:
        parts, first = list(Path(path).parts[1:]), len(Path(base).parts) - 1
    if number:
        parts[-1] += f".{number}"
    for start in range(first, -1, -1):
        yield "/".join(parts[start:])
    yield f"{parts[-1]}.{_short_hash(owner)}"


def _fitting(name: str, suffix: str) -> str:
    """The name with its suffix; where that is too long for the disk, a hash of the whole stands for its end."""
    folder, last = os.path.split(name)
    whole = last.encode("utf-8", "surrogatepass")
    if len(whole) + len(suffix) > NAME_BYTES:
        end = f"~{_short_hash(last)}"
        last = whole[: NAME_BYTES - len(end) - len(suffix)].decode("utf-8", "ignore") + end
    return os.path.join(folder, last + suffix)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _stamp(source: Source) -> tuple:
    """What changes on the disk when an input's files do."""
    stamps = []
    for path in (source.path, *source.pictures):
        try:
            found = os.stat(file_of(path))
            stamps.append((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        except (OSError, ValueError, TypeError):
            stamps.append(None)
    return tuple(stamps)
