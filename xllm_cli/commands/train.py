"""`xllm train`: run one stage of a recipe, or all."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from xllm_cli.console import note, progress_bar, result, show_rows, show_warnings
from xllm_cli.launch import launch, launched

SHOWN_DROPS = 5  # dropped samples named on the terminal; dropped.jsonl has all


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML), e.g. recipes/tiny.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="A key of the stage (lr=1e-4; with --all, of each), or a path from the root (model.llm.layers=8).",
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(help="Its name in the recipe, or 0 the LLM itself, 1 recogniser, 2 interface, 3 adapters."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="text, speech, image or video, where a stage has several.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every stage, in the recipe's order; what is complete is skipped.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    gpus: Annotated[str | None, typer.Option(help="A process on each of these GPUs, e.g. 0,1, or all.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="So many processes on the CPU, which share the batches.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Also write all parts into one folder, float16.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on exactly where the run stopped.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Forward and backward on the longest batch, then stop.")
    ] = False,
    meta: Annotated[
        bool, typer.Option("--meta", help="Count all stages without weights or data: parameters, memory, steps.")
    ] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the resolved recipe, then stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train one stage of a recipe, or all of them.

    A run's folder becomes a checkpoint for later stages and `xllm asr --model`.
    """
    from xllm.config import load_recipe, to_yaml

    if all_ and (stage is not None or modality or bundle or dry_run):
        raise typer.BadParameter(
            "trains every stage: leave out --stage, --modality, --bundle and --dry-run", param_hint="--all"
        )
    loaded = load_recipe(recipe, overrides or [], stage, modality, all_)
    if meta:
        show_warnings(quiet)
        _count(loaded)
        return
    if stage is None and not all_:
        raise typer.BadParameter("which one? see --meta; or --all", param_hint="--stage")
    chosen = list(loaded.stages.values()) if all_ else [loaded.stage(stage, modality)]
    if print_config:
        result(to_yaml(loaded))
        return
    if (gpus is not None or processes) and not launched():
        _launch(gpus, processes, device)
        return
    show_warnings(quiet)
    from xllm.checkpoint import is_complete

    left = [config for config in chosen if not (all_ and is_complete(config.output))]
    for config in chosen:
        if config in left:
            _train(loaded, config, device, bundle, resume, dry_run, quiet)
        elif os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            note(f"skipped {config.output}: {_title(config)} is complete")


def _train(
    recipe: Any, config: Any, device: str, bundle: Path | None, resume: bool, dry_run: bool, quiet: bool
) -> None:
    """One stage; a line when it is done."""
    from xllm.device import resolve_device
    from xllm.training.loop import Trainer

    began = time.monotonic()
    with progress_bar(quiet, "{task.fields[line]}") as bar:
        screen = _Screen(bar, config.output, quiet)
        trainer = Trainer(recipe, config, resolve_device(device), screen.event, bundle)
        if dry_run:
            found = trainer.dry_run()
            if trainer.main:
                result(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
            return
        trainer.run(resume)
    if trainer.main:
        note(f"saved {config.output}: {_title(config)}, {time.monotonic() - began:.0f} s")


def _title(config: Any) -> str:
    return f"stage {config.stage} {config.modality}"


def _launch(gpus: str | None, processes: int | None, device: str) -> None:
    """This command again, in several processes that train as one."""
    from xllm.device import resolve_gpus, visible_gpus
    from xllm.errors import ConfigError

    if gpus is None:
        launch(processes, {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""})
        return
    if processes or device != "auto":
        raise ConfigError("--gpus says how many processes there are, and where: leave out --processes and --device")
    chosen = resolve_gpus(gpus)
    launch(len(chosen), {"CUDA_VISIBLE_DEVICES": visible_gpus(chosen)})


def _count(recipe: Any) -> None:
    """Parameters of the parts, and what each stage takes."""
    from xllm.training.survey import survey

    parts, stages = survey(recipe)
    total = sum(parts.values())
    rows = [(name, f"{count / 1e6:,.1f}") for name, count in parts.items()]
    show_rows([("part", "million"), *rows, (recipe.name, f"{total / 1e6:,.1f}")])
    result("\n")
    head = ("stage", "trained M", "frozen M", "GPUs", "GB each", "samples", "batch", "steps/epoch", "epochs")
    show_rows([head, *(_stage_row(stage) for stage in stages)])
    for stage in stages:
        if stage.misfit:
            note(f"warning: stage {stage.stage} {stage.modality}: {stage.misfit}")


def _stage_row(stage: Any) -> tuple[str, ...]:
    """GB are of weights, gradients, optimiser and, where samples are expected, an estimate of activations."""
    memory = (stage.weights + (stage.activations or 0)) / 1e9
    return (
        f"{stage.stage} {stage.modality}",
        f"{stage.trained / 1e6:,.1f}",
        f"{stage.frozen / 1e6:,.1f}",
        str(stage.gpus),
        f"{memory:,.1f}",
        *("?" if value is None else f"{value:,}" for value in (stage.samples, stage.batch, stage.steps)),
        str(stage.epochs),
    )


class _Screen:
    """A run's events on the terminal."""

    def __init__(self, bar: Any, output: Path, quiet: bool):
        self.bar, self.output, self.quiet = bar, output, quiet
        self.task = bar.add_task("starting", total=None, line="")
        self.batches = self.epochs = 0

    def event(self, name: str, numbers: dict[str, Any]) -> None:
        """Show one event of the trainer."""
        getattr(self, f"_{name}")(numbers)

    def _prepare(self, n: dict) -> None:
        self.bar.update(self.task, description=n["what"], completed=n["done"], total=n["total"])

    def _start(self, n: dict) -> None:
        self.epochs = n["epochs"]
        dev = f"; dev: {n['dev']} samples, {len(n['dev_dropped'])} dropped" if n["dev"] else ""
        self._say(
            f"{n['samples']} samples, {len(n['dropped'])} dropped{dev}; {n['batches']} batches an epoch, "
            f"{100 * (n['padding'] - 1):.1f}% padding; {n['parameters'] / 1e6:.2f}M parameters on {n['device']}"
        )
        self._dropped(n["dropped"])
        self._dev_dropped(n["dev_dropped"])
        self.bar.update(self.task, description="training", completed=0, total=self.epochs * 100)

    def _dev_dropped(self, dropped: dict[str, str]) -> None:
        self._dropped(dropped, "dev ")

    def _dropped(self, dropped: dict[str, str], of: str = "") -> None:
        for sample, reason in list(dropped.items())[:SHOWN_DROPS]:
            self._say(f"dropped {of}{sample}: {reason}")
        if len(dropped) > SHOWN_DROPS:
            self._say(f"... and {len(dropped) - SHOWN_DROPS} more: {self.output / 'dropped.jsonl'}")

    def _train(self, n: dict) -> None:
        minutes, seconds = divmod(n["eta_s"], 60)
        self.bar.update(
            self.task,
            completed=n["epoch"] * 100,
            line=(
                f"step {n['step']} loss {n['loss']:.3f} lr {n['lr']:.1e} {n['samples_s']:.0f} samples/s "
                f"wait {100 * n['data_wait']:.0f}% left {minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
            ),
        )

    def _dev(self, n: dict) -> None:
        self._say(f"epoch {n['epoch']}/{self.epochs} " + _numbers(n, ("step", "epoch")))

    def _final(self, n: dict) -> None:
        self._say(f"mean of {n['epochs_averaged']} epochs: " + _numbers(n, ("step", "epochs_averaged")))

    def _say(self, line: str) -> None:
        if not self.quiet:
            note(line)


def _numbers(values: dict[str, Any], but: tuple[str, ...]) -> str:
    return " ".join(f"{key} {value:.4f}" for key, value in values.items() if key not in but)
