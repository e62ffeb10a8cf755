"""The `xllm` command. Command modules are light: torch and the library are imported when a command runs."""

import os
import signal
import sys
from contextlib import suppress
from typing import Annotated

import typer

from xllm_cli.commands import asr, bench, chat, doctor, eval, export, masr, prepare_data, train
from xllm_cli.console import FAILED, INTERRUPTED, USAGE, accept_all_characters
from xllm_cli.launch import fail

app = typer.Typer(
    name="xllm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Images, video and speech as foreign languages that a large language model reads. "
    "Try: xllm asr audio.wav. Every command takes --debug to show tracebacks, and --offline to ask no hub.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from xllm import __version__

        print(f"xllm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("asr")(asr.asr)
app.command("masr")(masr.masr)
app.command("chat")(chat.chat)
app.command("train")(train.train)
app.add_typer(eval.app, name="eval")
app.add_typer(prepare_data.app, name="prepare-data")
app.command("export")(export.export)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)


def _end_in_order() -> None:
    """Whoever ends the process by a signal gets its code, 128 and the number, once temporary files are deleted."""

    def leave(number, _):
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once, without a word
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is signal.SIG_DFL:  # not where nohup has it ignored
            with suppress(ValueError):  # in a thread of a larger program
                signal.signal(number, leave)


def main() -> None:
    """Entry point: run, and turn what goes wrong into one line and an exit code."""
    from xllm.errors import ConfigError, XLLMError

    accept_all_characters()
    _end_in_order()
    debug = "--debug" in sys.argv
    if "--offline" in sys.argv:
        os.environ["HF_HUB_OFFLINE"] = "1"  # before any library of the hub is imported
    sys.argv = [argument for argument in sys.argv if argument not in ("--debug", "--offline")]
    try:
        app()
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except XLLMError as error:
        if debug:
            raise
        fail(f"error: {error}", USAGE if isinstance(error, ConfigError) else FAILED)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.filename is not None:  # full, read-only, taken away meanwhile
            fail(f"error: {os.fsdecode(error.filename)}: {error.strerror}", FAILED)
        first = (str(error).splitlines() or ["no message"])[0]
        fail(f"error: unexpected {type(error).__name__}: {first} (run again with --debug and report it)", FAILED)


if __name__ == "__main__":  # `accelerate launch -m xllm_cli.main`
    main()
