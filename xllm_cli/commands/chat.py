"""`xllm chat`: questions about pictures, films and speech."""

import json
from pathlib import Path
from typing import Annotated

import typer

from xllm import PACKAGED
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
    model: Annotated[str, typer.Option(help=f"A model of the package ({PACKAGED}) or a checkpoint folder.")] = PACKAGED,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    web: Annotated[bool, typer.Option("--web", help="A page in the browser, on this machine only.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of that page; without one, a free one.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no warnings, no prompt.")] = False,
) -> None:
    """Talk about pictures, films and speech: a conversation, one question with -p, or a manifest of questions.

    A conversation has commands: /image PATH, /video PATH, /audio PATH, /clear, /save FILE, /load FILE, /help, /quit.

    It is read from the terminal, or from a pipe, whose lines are turns; a line that ends in a backslash goes on.

    A manifest's questions are answered in its order, one JSON line each on stdout.

    Exit code: 0 all done, 1 something failed, 2 wrong usage.
    """
    from xllm.device import resolve_device
    from xllm.errors import ConfigError
    from xllm.generation import Sampling
    from xllm.manifest import samples
    from xllm.media import rereadable
    from xllm.model import XLLM
    from xllm_cli.conversation import Terminal, as_text, read_text

    show_warnings(quiet)
    once = prompt is not None or audio is not None
    asked = read_text().strip() if prompt == "-" else as_text(prompt or "").strip()
    for wrong, message in (
        (manifest and web, "a manifest or --web, not both"),
        ((manifest or web) and (once or image or video), "a manifest or --web asks by itself: leave -p and media out"),
        (once and not asked and not audio, "nothing is asked: give a question with -p, or a spoken one with --audio"),
        (as_json and not (once or manifest), "--json is for -p, --audio and manifests"),
        (transcript and (manifest or web or (once and not audio)), "--transcript is for --audio and conversations"),
        (port and not web, "--port is for --web"),
    ):
        if wrong:
            raise ConfigError(message)
    if web:
        from xllm_cli.web import need_gradio

        need_gradio()
    sampling = Sampling(temperature, top_k, top_p, seed)
    rows = list(samples(manifest)) if manifest else []
    loaded = XLLM.from_pretrained(model, resolve_device(device))
    if web:
        from xllm_cli.web import serve

        serve(loaded, sampling, max_tokens, port)
        return
    if manifest:
        _batches(loaded, rows, sampling, max_tokens, batch_size, quiet)
        return
    from xllm.chat import Conversation

    talk = Conversation(loaded)
    for name, paths in (("image", image or ()), ("video", [video] if video else ())):
        for path in paths:
            talk.attach(name, path)
    if not once:
        if not Terminal(talk, sampling, max_tokens, transcript, quiet).run():
            raise typer.Exit(FAILED)
        return
    if audio:
        audio = rereadable(audio)
    answer = ""
    for piece in talk.ask(asked or None, sampling, max_tokens, audio):
        answer += piece
        if not as_json:
            result(piece)
    heard = {"transcript": talk.heard(audio)} if transcript and audio else {}
    if as_json:
        result(json.dumps({"instruction": asked or None, "response": answer, **heard}, ensure_ascii=False) + "\n")
        return
    result("\n")
    if heard:
        note(f"heard: {heard['transcript']}")


def _batches(model, rows: list, sampling, max_tokens: int, batch_size: int, quiet: bool) -> None:
    """Answer a manifest's rows in order, a JSON line each; one line on stderr for each that cannot be answered."""
    from xllm.chat import answer_rows
    from xllm.errors import XLLMError

    good = [row for row in rows if isinstance(row, dict)]
    failed = len(rows) - len(good)
    for row in rows:
        if not isinstance(row, dict):
            note(f"error: {row}")
    with progress_bar(quiet) as bar:
        task = bar.add_task("answering", total=len(good))
        for row, outcome in zip(good, answer_rows(model, good, sampling, max_tokens, batch_size), strict=True):
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
