"""`xllm prepare-data tiny-…`: what the system in the package was made from."""

from pathlib import Path
from typing import Annotated

import typer

from xllm_cli.console import note, progress_bar, show_warnings


def _tell(counts: dict[str, int], output: Path) -> None:
    for name, count in counts.items():
        note(f"{name:<22}{count:>8}")
    note(f"manifests are in {output}")


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
    _tell(counts, output)


def tiny_pictures(
    source: Annotated[Path, typer.Argument(help="Folder of packed npm packages: emojibase-data, @iconify-json/….")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where pictures and manifests go; tokenizer/ is there already.")
    ] = Path("data/tiny"),
    stamps: Annotated[
        Path | None, typer.Option(help="Tux Paint's stamps, unpacked: more pictures to train on (GPL 2).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Manifests of pictures with Chinese names, in the characters of the tokenizer."""
    from xllm.corpora import tiny_pictures as pictures
    from xllm.speech.units import Units

    show_warnings(quiet)
    known = set(Units.load(output / "tokenizer").characters)
    with progress_bar(quiet) as bar:
        task = bar.add_task("pictures", total=None)
        counts = pictures.prepare(
            source, output, known, stamps, progress=lambda _, done, total: bar.update(task, completed=done, total=total)
        )
    _tell(counts, output)


def tiny_clips(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where tiny-pictures has written; films and manifests go there.")
    ] = Path("data/tiny"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Films of those pictures in motion, as mp4, and their manifests."""
    from xllm.corpora import tiny_clips as clips

    show_warnings(quiet)
    with progress_bar(quiet) as bar:
        task = bar.add_task("clips", total=None)
        counts = clips.prepare(output, progress=lambda _, done, total: bar.update(task, completed=done, total=total))
    _tell(counts, output)


def tiny_instructions(
    source: Annotated[Path, typer.Argument(help="Folder of packed npm packages: emojibase-data has the names.")],
    wheels: Annotated[Path, typer.Option(help="Folder of downloaded text wheels.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where tiny-speech and tiny-pictures have written theirs.")
    ] = Path("data/tiny"),
    voices: Annotated[Path | None, typer.Option(help="Kokoro's folder of voices: joins timbres and prosodies.")] = None,
    spoken: Annotated[
        Path | None, typer.Option(help="Folder of <id>.wav spoken from spoken-jobs.jsonl: also writes its manifests.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Questions about pictures, films and speech: told in words for the tiny LLM, and spoken, with the noise around."""
    from xllm.corpora import tiny_instructions as instructions
    from xllm.corpora import tiny_pictures as pictures
    from xllm.corpora import tiny_spoken
    from xllm.speech.units import Units

    show_warnings(quiet)
    found = pictures.concepts(source, set(Units.load(output / "tokenizer").characters))
    named = [(concept.name, concept.kind) for concept in found]
    counts = instructions.prepare(named, wheels, output)
    counts |= tiny_spoken.prepare(output, named, voices, spoken)
    _tell(counts, output)
