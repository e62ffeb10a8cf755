"""The rules of the terminal: results go to stdout, everything else to stderr; exit codes mean something.

0 all done, 1 some or all inputs failed, 2 wrong usage, 130 interrupted.
"""

import io
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xllm_cli.escape import ANY, one_line

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def note(message: str) -> None:
    """One line on stderr, whatever is in the message."""
    print(one_line(message), file=sys.stderr, flush=True)


def result(text: str) -> None:
    """Text on stdout, at once, so that pipes see it as soon as it is known. Raises XLLMError, as for a full disk."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # whoever reads has seen enough
    except OSError as error:
        from xllm.errors import XLLMError

        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is held for the other one would fail again at exit
        raise XLLMError(f"stdout cannot be written: {error.strerror}") from None


def accept_all_characters() -> None:
    """Results get out whatever the encoding of stdout is: what it lacks is escaped, and that is said."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ANY)


def command_line() -> str:
    """The command that runs, as one may type it again."""
    return shlex.join(["xllm", *sys.argv[1:]])


def check_writable(folder: Path) -> None:
    """Learn before the work, not after it, that its results cannot be written."""
    from xllm.errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"-o {folder}: cannot write there: {error.strerror}; choose another folder") from None


def show_rows(rows: Sequence[Sequence[str]], words: bool = False) -> None:
    """Rows of text, the first one the head: a table drawn by rich on a terminal, aligned plain text elsewhere.

    Columns after the first hold numbers, unless they hold `words`.
    """
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*rows[0])
        for column in table.columns[1:]:
            column.justify = "left" if words else "right"
            column.overflow = "fold"
        for row in rows[1:]:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        rest = (c.ljust(w) if words else c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))
        line = "  ".join([first.ljust(widths[0]), *rest])
        result(line.rstrip() + "\n")


class _Lines(logging.Handler):
    """Warnings as lines, each once: several devices, or several runs of one command, may come to the same."""

    def __init__(self):
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            note(f"warning: {message}")


def show_warnings(quiet: bool) -> None:
    """Print the library's warnings as lines on stderr, unless `quiet`; hush other libraries' chatter."""
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' bars, too
    warnings.filterwarnings("ignore")
    logger = logging.getLogger("xllm")
    logger.handlers = [logging.NullHandler() if quiet else _Lines()]  # without any, logging prints by itself
    logger.propagate = False


@contextmanager
def progress_bar(quiet: bool, *columns: str) -> Iterator:
    """A rich Progress on stderr; it shows nothing if `quiet` or stderr is no terminal.

    `columns` are extra column templates, filled from task fields.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *map(TextColumn, columns),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    ) as bar:
        yield bar
