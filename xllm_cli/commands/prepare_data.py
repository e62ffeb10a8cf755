"""`xllm prepare-data`: public corpora to manifests."""

from pathlib import Path
from typing import Annotated

import typer

from xllm_cli.console import note, progress_bar, show_warnings

app = typer.Typer(no_args_is_help=True, help="Turn corpora into manifests (docs/data.md).")


@app.callback()
def corpora() -> None:
    pass  # keeps `tiny-speech` a subcommand while it is the only one


@app.command("tiny-speech")
def tiny_speech(
    source: Annotated[Path, typer.Argument(help="The corpus: manifest.jsonl and one tar per split.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where audio and manifests go.")] = Path("data/tiny"),
    wheels: Annotated[
        Path | None, typer.Option(help="Folder of downloaded text wheels; also writes text, words and the tokenizer.")
    ] = None,
    arpa: Annotated[
        Path | None, typer.Option(help="Trigram model in ARPA form; with --wheels, also writes text drawn from it.")
    ] = None,
    voices: Annotated[
        Path | None, typer.Option(help="Kokoro's folder of voices; with --wheels, joins timbres and prosodies there.")
    ] = None,
    spoken: Annotated[
        Path | None, typer.Option(help="Folder of <id>.wav spoken from voice-jobs.jsonl; with --wheels, its manifest.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Manifests of the tiny speech corpus; with --wheels also the text that the tiny LLM is made from."""
    from xllm.corpora import tiny_speech as speech
    from xllm.corpora import tiny_text as text
    from xllm.corpora import tiny_voices

    show_warnings(quiet)
    with progress_bar(quiet) as bar:
        task = bar.add_task("splits", total=None)
        counts = speech.prepare(
            source, output, lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
        )
        if wheels is not None:
            bar.update(task, description="text", total=None)
            rows = speech.read_corpus(source)
            counts |= text.prepare(
                wheels,
                output,
                [row["text"] for row in rows if row["split"] == "train"],
                [row["text"] for row in rows if row["split"] != "train"],
                arpa,
            )
            counts |= tiny_voices.prepare(output, voices, spoken)
    for name, count in counts.items():
        note(f"{name:<14}{count:>8}")
    note(f"manifests are in {output}")
