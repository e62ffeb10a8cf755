"""What `asr` and `masr` share: sources in, result files or stdout out, one line for every input that fails."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from xllm_cli.console import FAILED, note, progress_bar, result

Format = Literal["txt", "json", "jsonl", "srt", "vtt", "tsv"]
Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Files, folders, 'globs', manifests (.jsonl), or - for stdin."),
]
Model = Annotated[str, typer.Option(help="A model of the package (tiny) or a checkpoint folder.")]
Engine = Annotated[
    Literal["xllm", "cif"],
    typer.Option(help="Who writes: the language model, or the CIF recogniser alone (faster)."),
]
Form = Annotated[Format, typer.Option("--format", "-f", help="What to write.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for one file per input, instead of stdout.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pieces of speech recognised at once.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Gpus = Annotated[str | None, typer.Option(help="Split the inputs over these GPUs, e.g. 0,1, or all.")]
Draft = Annotated[
    bool,
    typer.Option("--draft/--no-draft", help="Verify the recogniser's text, or write token by token: the same, slower."),
]
DraftThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Lossy: take the recogniser's text where each of its characters is at least this likely, without the LLM.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="With -o: skip inputs already done.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings.")]
JOURNAL = ".xllm-asr.jsonl"  # in the output folder: what is done, for --resume


def recognise(
    sources,
    failures,
    model: str,
    engine: str,
    form: str,
    output: Path | None,
    batch_size: int,
    device: str,
    gpus: str | None,
    drafts: dict,
    resume: bool,
    quiet: bool,
) -> None:
    """Transcribe `sources` and write as asked; exits with 1 when they or the `failures` before were not all done."""
    from xllm.errors import ConfigError, XLLMError
    from xllm_cli.writers import as_dict, write

    for failure in failures:
        note(f"error: {failure.message}")
    if output is None and resume:
        raise ConfigError("--resume needs -o: what is printed cannot be resumed")
    if output is None and form in ("srt", "vtt", "tsv") and len(sources) > 1:
        raise ConfigError(f"several inputs in one {form}: give a folder with -o")
    names = _names([source.path for source in sources], form) if output else []
    settings = {"model": model, "engine": engine, "format": form}
    settings |= {"threshold": drafts["draft_threshold"]} if drafts["draft_threshold"] is not None else {}
    journal = _Journal(output, settings) if output else None
    done = 0
    if resume:
        keep = [i for i, (s, n) in enumerate(zip(sources, names, strict=True)) if not journal.has(s, n)]
        done = len(sources) - len(keep)
        sources, names = [sources[i] for i in keep], [names[i] for i in keep]
        note(f"{done} already done")
    failed = len(failures)
    collected = []
    with progress_bar(quiet) as bar:
        task = bar.add_task("transcribing", total=len(sources))
        for number, (source, outcome) in enumerate(_run(sources, model, engine, batch_size, device, gpus, drafts)):
            bar.advance(task)
            if isinstance(outcome, XLLMError):
                failed += 1
                note(f"error: {outcome}")
            elif output:
                journal.write(source, names[number], write(outcome, form))
            elif form == "json" and len(sources) > 1:
                collected.append(as_dict(outcome))
            elif form == "txt" and len(sources) > 1:
                result(f"{source.path}\t{outcome.text}\n")
            else:
                result(write(outcome, form))
    if collected:
        result(json.dumps(collected, ensure_ascii=False, indent=2) + "\n")
    if failed:
        note(f"{failed} of {len(sources) + len(failures) + done} inputs failed")
        raise typer.Exit(FAILED)


def _run(sources, model: str, engine: str, batch_size: int, device: str, gpus: str | None, drafts: dict):
    """Outcomes of all sources, on one device or on several GPUs."""
    if not sources:
        return iter(())
    from xllm.device import resolve_device, resolve_gpus
    from xllm.errors import ConfigError
    from xllm.model import XLLM
    from xllm.transcribe import devices_run, transcribe

    if gpus is None:
        loaded = XLLM.from_pretrained(model, resolve_device(device))
        for name, value in drafts.items():
            setattr(loaded, name, value)
        return transcribe(sources, loaded, engine, batch_size)
    if device != "auto":
        raise ConfigError("--gpus says where: leave out --device")
    devices = [f"cuda:{index}" for index in resolve_gpus(gpus)]
    return devices_run(sources, model, devices, engine, batch_size, **drafts)


def _names(paths: list[str], form: str) -> list[str]:
    """File names in the output folder: the inputs' tree below their common folder, so that none collide."""
    absolute = ["stdin" if path == "-" else os.path.abspath(path) for path in paths]
    files = [path for path in absolute if path != "stdin"]
    base = os.path.commonpath([os.path.dirname(path) for path in files]) if files else ""
    names, used = [], set()
    for path in absolute:
        stem = path if path == "stdin" else os.path.relpath(path, base)
        name, number = f"{stem}.{form}", 1
        while name in used:  # the same input twice
            number += 1
            name = f"{stem}.{number}.{form}"
        used.add(name)
        names.append(name)
    return names


class _Journal:
    """Result files of an output folder, and a line for each that is done: the key of its content and settings."""

    def __init__(self, folder: Path, settings: dict[str, str]):
        from xllm.errors import ConfigError

        self.folder, self.settings, self.path = folder, settings, folder / JOURNAL
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        except OSError as error:
            raise ConfigError(f"-o {folder}: cannot write there: {error.strerror}; choose another folder") from None
        self.done = set()
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                self.done.add((row["key"], row["output"]))
            except (json.JSONDecodeError, KeyError):
                continue  # a line cut short by a crash: that input is done again

    def _key(self, source) -> str:
        settings = self.settings | ({"caption": source.caption} if source.caption else {})
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for path in (source.path, *source.pictures):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def has(self, source, name: str) -> bool:
        """Whether this content was transcribed with these settings into this file, which is still there."""
        return source.path != "-" and (self._key(source), name) in self.done and (self.folder / name).exists()

    def write(self, source, name: str, text: str) -> None:
        """Write a result file, then its line."""
        from xllm.files import write_atomic

        write_atomic(self.folder / name, text)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"key": self._key(source), "output": name}, ensure_ascii=False) + "\n")
