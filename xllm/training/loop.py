"""The one trainer, for every stage: Accelerate underneath, so that one device or many run the same code.

A run folder holds `recipe.yaml` (resolved), `log.jsonl`, `tensorboard/`, `checkpoints/` and, in the end, the
checkpoint that later stages start from. Resumption is exact: batches, what is drawn for each sample, and the learning
rate are functions of the place in the run, and dropout's random state is saved with the weights.
"""

import json
import os
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, send_to_device, set_seed
from torch import Tensor

from xllm import checkpoint
from xllm.config import Recipe, StageConfig, to_yaml
from xllm.errors import ConfigError
from xllm.files import write_atomic
from xllm.training.data import BatchDataset, keep, loader, make_batches, padding_waste
from xllm.training.meter import Meter
from xllm.training.schedule import learning_rate
from xllm.training.stages import build
from xllm.training.state import Checkpoints, Place

Report = Callable[[str, dict[str, Any]], None]  # event, its numbers: what a run tells its caller


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay for matrices only: biases and norms are scales, not weights."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
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

        self.examples = stage.examples(xllm, recipe, config, config.train, True, progress)
        self.dev = stage.examples(xllm, recipe, config, config.dev, False, progress) if config.dev else None
        self.items, self.dropped = keep(self.examples, config.max_cost)
        if len(self.items) == 0:
            first = next(iter(self.dropped.items()), ("none", "the manifests are empty"))
            raise ConfigError(f"no sample can be trained on; the first: {first[0]}: {first[1]}")
        self.costs = np.array([self.examples.cost(i) for i in self.items.tolist()])
        self.kinds = np.array([self.examples.kind(i) for i in self.items.tolist()])
        fused = self.accelerator.device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(
            _parameter_groups(model, config.weight_decay), lr=config.lr, betas=config.betas, fused=fused
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.checkpoints = Checkpoints(config.output)
        self.place = Place(items=len(self.items))
        self._writer = None

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def weights(self) -> dict[str, Tensor]:
        """The trained parts' tensors, by their names in XLLM."""
        model = self.accelerator.unwrap_model(self.model)
        return checkpoint.tensors(model.model, model.stage.trains)

    def load_weights(self, values: dict[str, Tensor]) -> None:
        """Copy trained parts' tensors into the model."""
        with torch.no_grad():
            for name, tensor in self.weights().items():
                tensor.copy_(values[name])

    def _positions(self, epoch: int) -> list[np.ndarray]:
        """The epoch's batches as positions in `items`."""
        config = self.config
        return make_batches(self.costs, self.kinds, config.batch_cost, config.window, self.recipe.seed, epoch)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The epoch's batches of item numbers."""
        return [self.items[positions] for positions in self._positions(epoch)]

    @property
    def padding(self) -> float:
        """Padded over real size of the first epoch's batches."""
        return round(padding_waste(self.costs, self._positions(0)), 3)

    def dry_run(self) -> dict[str, Any]:
        """Forward and backward on the epoch's costliest batch: its size, samples, loss and the memory it took."""
        batches = self.batches(0)
        padded = [len(batch) * max(self.examples.cost(i) for i in batch.tolist()) for batch in batches]
        number = int(np.argmax(padded))
        batch, _ = BatchDataset(self.examples, batches, self.recipe.seed, 0, True)[number]
        self.model.train()
        loss = self.model(send_to_device(batch, self.accelerator.device))["loss"]
        self.accelerator.backward(loss)
        cuda = self.accelerator.device.type == "cuda"
        memory = (
            torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        longest = max(batches[number].tolist(), key=self.examples.cost)
        return {
            "batch_cost": padded[number],
            "samples": len(batches[number]),
            "longest": self.examples.name(longest),
            "loss": float(loss.detach()),
            "memory_bytes": int(memory),
            "batches": len(batches),
            "padding": self.padding,
        }

    def run(self, resume: bool = False) -> None:
        """Train to the last epoch, then save the (averaged) result in the run's folder.

        Raises ConfigError when the folder already holds a run and `resume` is not asked for, or when the
        checkpoint to resume from belongs to other data.
        """
        self._open(resume)
        while self.place.epoch < self.config.epochs:
            self._epoch()
        self._finish()

    def _open(self, resume: bool) -> None:
        latest = self.checkpoints.latest()
        if latest is not None and not resume:
            raise ConfigError(f"{self.config.output} already holds a run: add --resume, or choose another output")
        if latest is not None:
            place, weights = Checkpoints.read(latest, self.optimizer, self.accelerator.process_index)
            if place.items != len(self.items):
                raise ConfigError(
                    f"{latest}: was trained on {place.items} samples, the manifests now give "
                    f"{len(self.items)}; choose another output"
                )
            self.load_weights(weights)
            self.place = place
        if self.main:
            self.config.output.mkdir(parents=True, exist_ok=True)
            write_atomic(self.config.output / "recipe.yaml", to_yaml(self.recipe))
            self.report(
                "start",
                {
                    "samples": len(self.items),
                    "dropped": self.dropped,
                    "batches": len(self.batches(self.place.epoch)),
                    "step": self.place.step,
                    "epochs": self.config.epochs,
                    "device": str(self.accelerator.device),
                    "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
                    "padding": self.padding,
                },
            )

    def _epoch(self) -> None:
        place, config = self.place, self.config
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        batches = self.batches(place.epoch)
        # In the last round some processes may have no batch left: they take another one, and it counts nothing.
        rounds = -(-len(batches) // world) * world
        order = [number % len(batches) for number in range(place.batch + rank, rounds, world)]
        self.examples.flat_start = place.epoch < config.flat_start
        data = BatchDataset(self.examples, batches, self.recipe.seed, place.epoch, True)
        self.model.train()
        meter = Meter()
        micro = 0
        asked = time.perf_counter()
        for batch, dropped in loader(data, order, config.workers):
            meter.wait(time.perf_counter() - asked)
            if dropped:
                self.dropped |= dropped
                self.report("dropped", dropped)
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
        self.accelerator.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.place.step, self.config.lr, self.config.schedule)
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
            "lr": self.optimizer.param_groups[0]["lr"],
            "eta_s": round(left / self.accelerator.num_processes * numbers["batch_s"]),
        }
        self._record("train", entry)

    def _record(self, event: str, entry: dict[str, Any]) -> None:
        if not self.main:
            return
        with (self.config.output / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"event": event, **entry}) + "\n")
        self._tensorboard(event, entry)
        self.report(event, entry)

    def _tensorboard(self, event: str, entry: dict[str, Any]) -> None:
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return  # tensorboard comes with the `train` extra; log.jsonl holds the same numbers
            self._writer = SummaryWriter(self.config.output / "tensorboard", purge_step=self.place.step)
        for key, value in entry.items():
            self._writer.add_scalar(f"{event}/{key}", value, self.place.step)

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
        """Mean losses over the dev set; empty when there is none."""
        if self.dev is None:
            return {}
        items, _ = keep(self.dev, self.config.max_cost)
        costs = np.array([self.dev.cost(i) for i in items.tolist()])
        kinds = np.array([self.dev.kind(i) for i in items.tolist()])
        batches = [items[b] for b in make_batches(costs, kinds, self.config.batch_cost, self.config.window, 0, 0)]
        data = BatchDataset(self.dev, batches, 0, 0, False)
        self.model.eval()
        totals: dict[str, float] = {}
        counts: dict[str, float] = {}
        for batch, _ in loader(data, range(len(batches)), 0):
            size = len(next(iter(batch.values())))
            for key, value in self.model(send_to_device(batch, self.accelerator.device)).items():
                totals[key] = totals.get(key, 0.0) + float(value) * size
                counts[key] = counts.get(key, 0.0) + size
        return {key: totals[key] / counts[key] for key in totals}

    def _finish(self) -> None:
        if self.main:
            self.load_weights(self.checkpoints.average([epoch for _, epoch in self.place.best]))
        self.accelerator.wait_for_everyone()
        if self.main:
            checkpoint.save(
                self.config.output,
                self.recipe.name,
                self.recipe.model,
                self.weights(),
                frozen=self.config.start_from if self.accelerator.unwrap_model(self.model).stage.frozen else (),
                lora=self.config.lora,
            )
            if self.bundle is not None:
                self._save_bundle(self.bundle)
            averaged = self.evaluate()
            self._record("final", {"step": self.place.step, "epochs_averaged": len(self.place.best), **averaged})
            if self._writer is not None:
                self._writer.close()

    def _save_bundle(self, folder: Path) -> None:
        """Everything in one folder, float16; what is frozen and has a public name is not copied."""
        model = self.accelerator.unwrap_model(self.model).model
        named = {"context", *(["llm"] if self.recipe.model.llm.name else [])}
        parts = [name for name, _ in model.named_children() if name not in named]
        values = checkpoint.tensors(model, parts)
        checkpoint.save(folder, self.recipe.name, self.recipe.model, values, half=True, lora=self.config.lora)
