"""The one trainer, for every stage: Accelerate underneath, so that one device or many run the same code.

A run folder holds what `run_folder` writes, `checkpoints/` and, in the end, the checkpoint that later stages start
from. Resumption is exact: batches, what is drawn for each sample, and the learning rate are functions of the place in
the run, and dropout's random state is saved with the weights.
"""

import logging
import os
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, send_to_device, set_seed
from torch import Tensor

from xllm import checkpoint
from xllm.config import Recipe, StageConfig
from xllm.errors import ConfigError, ManifestError
from xllm.training.data import BatchDataset, Usable, loader, padding_waste
from xllm.training.meter import Meter
from xllm.training.resume import differences, made_of
from xllm.training.run_folder import RunFolder
from xllm.training.schedule import learning_rate, misfit
from xllm.training.stages import build
from xllm.training.state import Checkpoints, Place

logger = logging.getLogger(__name__)

Report = Callable[[str, dict[str, Any]], None]  # event, its numbers: what a run tells its caller


def _parameter_groups(model: torch.nn.Module, weight_decay: float, scales: Mapping[str, float]) -> list[dict]:
    """Weight decay for matrices only: biases and norms are scales, not weights. `scales` of the rate go by layers.

    Each group has the `names` of its parameters, by which checkpoints know them.
    Raises ConfigError for a layer that does not train.
    """
    groups: dict[tuple[float, float], dict[str, Tensor]] = {}
    unused = set(scales)
    for name, value in model.named_parameters():
        if not value.requires_grad:
            continue
        layers = [layer for layer in scales if f"{name}.".startswith(f"{layer}.")]
        unused -= set(layers)
        scale = scales[max(layers, key=len)] if layers else 1.0
        groups.setdefault((weight_decay if value.dim() > 1 else 0.0, scale), {})[name] = value
    if unused:
        raise ConfigError(f"lr_scale: {min(unused)!r} is no layer that the stage trains")
    return [
        {"params": list(group.values()), "names": list(group), "weight_decay": decay, "scale": scale}
        for (decay, scale), group in groups.items()
    ]


class Trainer:
    """Trains one stage of a recipe."""

    def __init__(
        self, recipe: Recipe, config: StageConfig, device: torch.device, report: Report, bundle: Path | None = None
    ):
        """Build the model and the examples; raises ConfigError, ManifestError, or when nothing can be trained on."""
        self.recipe, self.config, self.report, self.bundle = recipe, config, report, bundle
        precision = config.precision
        if precision == "auto":
            precision = "bfloat16" if device.type == "cuda" else "float32"
        if "LOCAL_RANK" not in os.environ:  # started alone, not by `accelerate launch`: the device is ours to say
            os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="bf16" if precision == "bfloat16" else "no",
            # Batches of text alone leave the speech encoder without gradients.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise ConfigError(
                "the trainer writes no checkpoints of weights that FSDP or DeepSpeed has sharded; use --gpus, and for "
                "a language model too large for one GPU llm.load_in or llm.device_map"
            )
        set_seed(recipe.seed)
        model = build(recipe, config).to(self.accelerator.device)
        model.eval()  # caches of frozen parts are computed before training starts
        if config.compile and hasattr(model.model, "llm"):
            model.model.llm.model.base_model.compile(dynamic=True)
        stage, xllm = model.stage, model.model

        def progress(what: str, done: int, total: int) -> None:
            if self.main:
                report("prepare", {"what": what, "done": done, "total": total})

        examples = stage.examples(xllm, recipe, config, config.train, True, progress)
        self.training = Usable.of(examples, config.max_cost, "training")
        self.dev = None
        if config.dev:
            examples = stage.examples(xllm, recipe, config, config.dev, False, progress)
            self.dev = Usable.of(examples, config.max_cost, "dev")
        fused = self.accelerator.device.type in ("cpu", "cuda")
        groups = _parameter_groups(model.model, config.weight_decay, config.lr_scale)
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.folder, self.checkpoints = RunFolder(config.output), Checkpoints(config.output)
        self.place = Place(made_of=made_of(recipe, config, self.training, self.accelerator.num_processes))

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def weights(self) -> dict[str, Tensor]:
        """The trained parts' tensors, by their names in XLLM."""
        model = self.accelerator.unwrap_model(self.model)
        return checkpoint.tensors(model.model, model.stage.trains)

    def load_weights(self, values: dict[str, Tensor]) -> None:
        """Copy trained parts' tensors into the model; raises ConfigError when they are of another one."""
        own = self.weights()
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in values.items()}:
            raise ConfigError(
                f"{self.config.output}: its checkpoints are of another model than the recipe's; choose another output"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(values[name])

    def _positions(self, epoch: int) -> list[np.ndarray]:
        """The epoch's batches as positions among the training samples."""
        return self.training.positions(self.config.batch_cost, self.config.window, self.recipe.seed, epoch)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The epoch's batches of item numbers."""
        return [self.training.items[positions] for positions in self._positions(epoch)]

    @property
    def padding(self) -> float:
        """Padded over real size of the first epoch's batches."""
        return round(padding_waste(self.training.costs, self._positions(0)), 3)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run, if all its epochs have as many batches as the first."""
        rounds = -(-len(self.batches(0)) // self.accelerator.num_processes)
        return -(-rounds // self.config.accumulate) * self.config.epochs

    def _check_schedule(self) -> None:
        if self.main and (problem := misfit(self.config.schedule, self.steps)):
            logger.warning("%s", problem)

    def dry_run(self) -> dict[str, Any]:
        """Forward and backward on the epoch's costliest batch: its size, samples, loss and the memory it took."""
        self._check_schedule()
        examples, batches = self.training.examples, self.batches(0)
        padded = [len(batch) * max(examples.cost(i) for i in batch.tolist()) for batch in batches]
        number = int(np.argmax(padded))
        batch, _ = BatchDataset(examples, batches, self.recipe.seed, 0, True)[number]
        self.model.train()
        loss = self.model(send_to_device(batch, self.accelerator.device))["loss"]
        self.accelerator.backward(loss)
        cuda = self.accelerator.device.type == "cuda"
        memory = (
            torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        longest = max(batches[number].tolist(), key=examples.cost)
        return {
            "batch_cost": padded[number],
            "samples": len(batches[number]),
            "longest": examples.name(longest),
            "loss": float(loss.detach()),
            "memory_bytes": int(memory),
            "batches": len(batches),
            "padding": self.padding,
        }

    def run(self, resume: bool = False) -> None:
        """Train to the last epoch, then save the (averaged) result in the run's folder.

        Raises ConfigError when the folder already holds a run and `resume` is not asked for, when another process
        trains there, and when what determines the batches has changed (`xllm.training.resume`).
        """
        with self.folder.alone() if self.main else nullcontext():
            self._open(resume)
            while self.place.epoch < self.config.epochs:
                self._epoch()
            self._finish()

    def _open(self, resume: bool) -> None:
        if self.checkpoints.any():
            if not resume:
                raise ConfigError(f"{self.config.output} already holds a run: add --resume, or choose another output")
            self._go_on()
        elif (self.config.output / checkpoint.MARK).exists():
            raise ConfigError(f"{self.config.output} holds a trained system already; choose another output")
        if self.main:
            self.folder.begin(self.recipe)
            self.folder.drop(self.training.dropped)
            self.folder.drop(self.dev.dropped if self.dev else {}, dev=True)
            self._check_schedule()
            self.report(
                "start",
                {
                    "samples": len(self.training.items),
                    "dropped": self.training.dropped,
                    "dev": len(self.dev.items) if self.dev else 0,
                    "dev_dropped": self.dev.dropped if self.dev else {},
                    "batches": len(self.batches(self.place.epoch)),
                    "step": self.place.step,
                    "epochs": self.config.epochs,
                    "device": str(self.accelerator.device),
                    "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
                    "padding": self.padding,
                },
            )
        self.accelerator.wait_for_everyone()

    def _go_on(self) -> None:
        """Be where the newest whole checkpoint was; damaged ones after it are set aside, and said."""
        found, damaged = self.checkpoints.newest()
        self.accelerator.wait_for_everyone()  # all have found the same
        for folder, flaw in damaged.items() if self.main else ():
            aside = Checkpoints.set_aside(folder)
            logger.warning("%s is damaged (%s) and now called %s; %s goes on", folder, flaw, aside.name, found.name)
        place, weights = Checkpoints.read(found)
        if changed := differences(place.made_of, self.place.made_of, place.batch > 0):
            raise ConfigError(
                f"{found}: cannot go on with other batches: {'; '.join(changed)}; put it back, or choose another output"
            )
        self.load_weights(weights)
        Checkpoints.restore(found, self.optimizer, self.accelerator.process_index)
        place.made_of = self.place.made_of
        self.place = place

    def _epoch(self) -> None:
        place, config = self.place, self.config
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        batches = self.batches(place.epoch)
        # In the last round some processes may have no batch left: they take another one, and it counts nothing.
        rounds = -(-len(batches) // world) * world
        order = [number % len(batches) for number in range(place.batch + rank, rounds, world)]
        examples = self.training.examples
        examples.flat_start = place.epoch < config.flat_start
        data = BatchDataset(examples, batches, self.recipe.seed, place.epoch, True)
        self.model.train()
        meter = Meter()
        micro = 0
        asked = time.perf_counter()
        for batch, dropped in loader(data, order, config.workers):
            meter.wait(time.perf_counter() - asked)
            if new := self.training.drop(dropped):
                self.folder.drop(new)
                self.report("dropped", new)
            micro += 1
            counts = place.batch + rank < len(batches)
            place.batch += world
            last = place.batch >= len(batches)
            stepping = micro % config.accumulate == 0 or last
            losses = self._backward(batch, stepping, counts)
            if counts:
                meter.add(losses, len(next(iter(batch.values()))))
            if stepping:
                self._step()
                if place.step % config.log_every == 0:
                    self._log(meter, len(batches))
                if place.step % config.save_every == 0 and not last:
                    self._save()
            asked = time.perf_counter()
        self._end_epoch()

    def _backward(self, batch: dict, stepping: bool, counts: bool) -> dict[str, Tensor]:
        batch = send_to_device(batch, self.accelerator.device)
        share = counts / self.config.accumulate
        with nullcontext() if stepping else self.accelerator.no_sync(self.model):
            losses = self.model(batch)
            self.accelerator.backward(losses["loss"] * share)
        return {key: value.detach() for key, value in losses.items()}

    def _step(self) -> None:
        if self.config.clip:
            self.accelerator.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(self.place.step, self.config.lr, self.config.schedule)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.place.step += 1

    def _log(self, meter: Meter, batches: int) -> None:
        place, config = self.place, self.config
        numbers = meter.read()
        left = batches * (config.epochs - place.epoch) - place.batch
        entry = {
            "step": place.step,
            "epoch": round(place.epoch + place.batch / batches, 3),
            **numbers,
            "lr": learning_rate(self.place.step - 1, self.config.lr, self.config.schedule),
            "eta_s": round(left / self.accelerator.num_processes * numbers["batch_s"]),
        }
        self._record("train", entry)

    def _record(self, event: str, entry: dict[str, Any]) -> None:
        if self.main:
            self.folder.log(event, entry, self.place.step)
            self.report(event, entry)

    def _save(self) -> None:
        self.checkpoints.write(
            self.place,
            self.weights(),
            self.optimizer,
            self.accelerator.process_index,
            self.accelerator.wait_for_everyone,
        )

    def _end_epoch(self) -> None:
        place = self.place
        losses = self.evaluate()
        epoch = place.epoch
        place.epoch, place.batch = epoch + 1, 0
        # Without a dev set the latest epochs count as the best.
        place.best = sorted([*place.best, (losses.get("loss", -float(epoch)), epoch)])
        worst = place.best[self.config.average :]
        place.best = place.best[: self.config.average]
        if self.main:
            if all(number != epoch for _, number in worst):
                self.checkpoints.keep_epoch(epoch, self.weights())
            for _, number in worst:
                self.checkpoints.forget_epoch(number)
        self._record("dev", {"step": place.step, "epoch": epoch + 1, **losses})
        self._save()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean losses over the dev set; empty when there is none. Raises ManifestError when none of it can be read."""
        if self.dev is None:
            return {}
        positions = self.dev.positions(self.config.batch_cost, self.config.window, 0, 0)
        data = BatchDataset(self.dev.examples, [self.dev.items[at] for at in positions], 0, 0, False)
        self.model.eval()
        totals: dict[str, float] = {}
        counts: dict[str, int] = {}
        for batch, dropped in loader(data, range(len(data)), 0):
            if (new := self.dev.drop(dropped)) and self.main:
                self.folder.drop(new, dev=True)
                self.report("dev_dropped", new)
            if not batch:
                continue
            size = len(next(iter(batch.values())))
            for key, value in self.model(send_to_device(batch, self.accelerator.device)).items():
                totals[key] = totals.get(key, 0.0) + float(value) * size
                counts[key] = counts.get(key, 0) + size
        if not counts:
            name, reason = next(iter(self.dev.dropped.items()))
            raise ManifestError(f"no dev sample can be read; the first: {name}: {reason}")
        return {key: totals[key] / counts[key] for key in totals}

    def _finish(self) -> None:
        model = self.accelerator.unwrap_model(self.model)
        if self.main:
            self.load_weights(self.checkpoints.average([epoch for _, epoch in self.place.best]))
        self.accelerator.wait_for_everyone()
        if self.main:
            checkpoint.save(
                self.config.output,
                self.recipe.name,
                model.model.config,
                self.weights(),
                frozen=checkpoint.beside(self.config.start_from, model.stage.trains),
                lora=self.config.lora,
            )
            if self.bundle is not None:
                self._save_bundle(self.bundle)
            averaged = self.evaluate()
            self._record("final", {"step": self.place.step, "epochs_averaged": len(self.place.best), **averaged})
        self.accelerator.wait_for_everyone()  # the next stage starts from what the first process has written

    def _save_bundle(self, folder: Path) -> None:
        """Everything in one folder, float16; what is frozen and has a public name is not copied."""
        model = self.accelerator.unwrap_model(self.model).model
        named = {"context", *(["llm"] if self.recipe.model.llm.name else [])}
        parts = [name for name, _ in model.named_children() if name not in named]
        values = checkpoint.tensors(model, parts)
        checkpoint.save(folder, self.recipe.name, model.config, values, bits=16, lora=self.config.lora)
