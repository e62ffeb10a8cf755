"""`xllm chat`: questions about pictures, films and speech."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from xllm_cli.console import FAILED, note, progress_bar, result, show_warnings


def chat(
    manifest: Annotated[Path | None, typer.Argument(help="Questions (.jsonl) to answer in batches.")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="Ask this once; - reads the question from stdin.")
    ] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Picture to ask about; may be given several times.")] = None,
    video: Annotated[Path | None, typer.Option(help="Film to ask about, or an animated picture.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Speech to ask about; without -p, a spoken question.")] = None,
    transcript: Annotated[
        bool, typer.Option("--transcript", help="Also tell what the recogniser heard in --audio.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token, always.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Draw from the likeliest tokens of this mass.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from this many likeliest tokens; 0: all.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Of the draws.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions of a manifest answered at once.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    model: Annotated[str, typer.Option(help="A model of the package (tiny) or a checkpoint folder.")] = "tiny",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    web: Annotated[bool, typer.Option("--web", help="A page in the browser, on this machine only.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of that page; without one, a free one.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no warnings, no prompt.")] = False,
) -> None:
    """Talk about pictures, films and speech: a conversation on the terminal, or one question with -p.

    A manifest's questions are answered in its order, one JSON line each on stdout.

    Exit code: 0 all done, 1 something failed, 2 wrong usage.
    """
    from xllm.device import resolve_device
    from xllm.errors import ConfigError
    from xllm.generation import Sampling
    from xllm.model import XLLM

    show_warnings(quiet)
    if (manifest or web) and (prompt or image or video or audio):
        raise ConfigError("a manifest or --web takes questions and media by itself: leave -p and the files out")
    asked = sys.stdin.read().strip() if prompt == "-" else prompt
    sampling = Sampling(temperature, top_k, top_p, seed)
    loaded = XLLM.from_pretrained(model, resolve_device(device))
    if web:
        from xllm_cli.web import serve

        serve(loaded, sampling, max_tokens, port)
        return
    if manifest:
        _batches(loaded, manifest, sampling, max_tokens, batch_size, quiet)
        return
    from xllm.chat import Conversation

    talk = Conversation(loaded)
    for name, paths in (("image", image or ()), ("video", [video] if video else ())):
        for path in paths:
            talk.attach(name, path)
    if asked is None and not audio:
        from xllm_cli.conversation import Terminal

        Terminal(talk, sampling, max_tokens, quiet).run()
        return
    heard = talk.heard(audio) if transcript and audio else None
    answer = ""
    for piece in talk.ask(asked, sampling, max_tokens, audio):
        answer += piece
        if not as_json:
            result(piece)
    if as_json:
        told = {"instruction": asked, "response": answer} | ({"transcript": heard} if heard is not None else {})
        result(json.dumps(told, ensure_ascii=False) + "\n")
    else:
        result("\n")
        if heard is not None:
            note(f"heard: {heard}")


def _batches(model, manifest: Path, sampling, max_tokens: int, batch_size: int, quiet: bool) -> None:
    """Answer a manifest's rows in order, a JSON line each."""
    from xllm.chat import answer_rows
    from xllm.errors import XLLMError
    from xllm.manifest import iterate_manifest

    rows = list(iterate_manifest(manifest))
    failed = 0
    with progress_bar(quiet) as bar:
        task = bar.add_task("answering", total=len(rows))
        for row, outcome in zip(rows, answer_rows(model, rows, sampling, max_tokens, batch_size), strict=True):
            bar.advance(task)
            if isinstance(outcome, XLLMError):
                failed += 1
                note(f"error: {row['id']}: {outcome}")
            else:
                told = {"id": row["id"], "instruction": row["instruction"], "response": outcome}
                result(json.dumps(told, ensure_ascii=False) + "\n")
    if failed:
        note(f"{failed} of {len(rows)} questions failed")
        raise typer.Exit(FAILED)
