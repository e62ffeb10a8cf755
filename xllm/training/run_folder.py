"""What a run leaves in its folder for people: the recipe, a log, curves, and the samples that were dropped.

recipe.yaml     resolved, as it was trained
log.jsonl       a line an event: losses, rate, speed
tensorboard/    the same numbers as curves
dropped.jsonl   samples that this start of the run did not use, and why
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xllm.config import Recipe, to_yaml
from xllm.errors import ConfigError
from xllm.files import write_atomic


class RunFolder:
    """The files of one run, written by its main process where nothing else is said."""

    def __init__(self, path: Path):
        self.path = path
        self._writer = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder against other runs. Raises ConfigError when one is at work there, or it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", blocking=False)
            lock.acquire()
        except Timeout:
            raise ConfigError(f"{self.path}: another run is at work there; wait, or choose another output") from None
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot write there: {error.strerror}; choose another output") from None
        try:
            yield
        finally:
            if self._writer is not None:
                self._writer.close()
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def begin(self, recipe: Recipe) -> None:
        """Write the recipe; nothing is dropped yet."""
        write_atomic(self.path / "recipe.yaml", to_yaml(recipe))
        (self.path / "dropped.jsonl").unlink(missing_ok=True)

    def drop(self, samples: dict[str, str], dev: bool = False) -> None:
        """List more dropped samples, id -> reason; those of the dev set are marked. Any process may."""
        if not samples:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        mark = {"dev": True} if dev else {}
        with (self.path / "dropped.jsonl").open("a", encoding="utf-8") as out:
            for name, reason in samples.items():
                out.write(json.dumps({"id": name, "reason": reason, **mark}, ensure_ascii=False) + "\n")

    def log(self, event: str, entry: dict[str, Any], step: int) -> None:
        """Add a line to the log, and points to the curves."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"event": event, **entry}) + "\n")
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return  # tensorboard comes with the `train` extra; log.jsonl holds the same numbers
            self._writer = SummaryWriter(self.path / "tensorboard", purge_step=step)
        for key, value in entry.items():
            self._writer.add_scalar(f"{event}/{key}", value, step)
