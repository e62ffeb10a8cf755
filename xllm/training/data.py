"""Which samples make up which batch: length buckets under a budget, deterministic and addressed by index.

The order of an epoch is a pure function of (seed, epoch), and what is drawn for a sample of (seed, epoch, index).
So a run can stop after any batch and go on exactly, with any number of loader workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from xllm.errors import ConfigError, ManifestError, XLLMError
from xllm.features import seeded
from xllm.training.examples import Examples


def make_batches(
    costs: np.ndarray, kinds: np.ndarray, budget: int, window: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Cut an epoch into batches of item numbers whose padded cost (items x longest) stays within `budget`.

    A window holds about `window` batches of shuffled items; inside it items are sorted by kind and length, so that
    batches are nearly rectangular and never mix kinds. Batches are then shuffled.
    """
    if len(costs) == 0:
        return []
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(costs))
    size = max(1, int(window * budget / max(1.0, float(costs.mean()))))
    batches = []
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        chunk = chunk[np.lexsort((chunk, costs[chunk], kinds[chunk]))]
        batch: list[int] = []
        for item in chunk:
            full = batch and (len(batch) + 1) * costs[item] > budget
            if batch and (full or kinds[item] != kinds[batch[-1]]):
                batches.append(np.array(batch))
                batch = []
            batch.append(item)
        batches.append(np.array(batch))
    return [batches[i] for i in generator.permutation(len(batches))]


def padding_waste(costs: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Padded over real size of all batches: 1.0 is no waste."""
    padded = sum(len(batch) * int(costs[batch].max()) for batch in batches)
    return padded / max(1, sum(int(costs[batch].sum()) for batch in batches))


class BatchDataset(Dataset):
    """Batch number -> collated batch. What an item draws is seeded by (seed, epoch, item)."""

    def __init__(self, examples: Examples, batches: Sequence[np.ndarray], seed: int, epoch: int, training: bool):
        self.examples, self.batches = examples, batches
        self.seed, self.epoch, self.training = seed, epoch, training

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[dict, dict[str, str]]:
        """Return the batch and what was dropped from it: {id: reason}.

        When all of a batch is dropped the next one stands in, so that distributed processes stay in step; when not
        training it is empty.
        """
        dropped: dict[str, str] = {}
        for other in range(number, number + len(self.batches)):
            items = []
            for item in self.batches[other % len(self.batches)].tolist():
                generator = seeded(self.seed, self.epoch, item) if self.training else None
                try:
                    items.append(self.examples.load(item, generator))
                except XLLMError as error:
                    dropped[self.examples.name(item)] = str(error)
            if items:
                return self.examples.collate(items), dropped
            if not self.training:
                return {}, dropped
        raise ManifestError(f"no sample of the epoch can be read; the first: {next(iter(dropped.values()))}")


def loader(dataset: BatchDataset, order: Sequence[int], workers: int) -> DataLoader:
    """Batches `order` of the dataset, collated in `workers` processes.

    Its own generator: an iterator's start draws a number, which must not come from dropout's random state.
    """
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        generator=torch.Generator(),
        prefetch_factor=4 if workers else None,
    )


@dataclass(frozen=True)
class Usable:
    """The examples that can be used: their numbers, costs and kinds [N], and what is dropped, id -> reason."""

    examples: Examples
    items: np.ndarray
    costs: np.ndarray
    kinds: np.ndarray
    dropped: dict[str, str]

    @classmethod
    def of(cls, examples: Examples, max_cost: int, what: str) -> "Usable":
        """Sort out what is unusable or too long. Raises ConfigError, saying `what` they are, when nothing is left."""
        kept, dropped = [], {}
        for item in range(len(examples)):
            reason = examples.unusable(item)
            if reason is None and examples.cost(item) > max_cost:
                reason = f"longer than max_cost: {examples.cost(item)} > {max_cost}"
            if reason is None:
                kept.append(item)
            else:
                dropped[examples.name(item)] = reason
        if not kept:
            name, reason = next(iter(dropped.items()), ("none", "the manifests are empty"))
            raise ConfigError(f"no {what} sample can be used; the first: {name}: {reason}")
        costs, kinds = (np.array([of(item) for item in kept]) for of in (examples.cost, examples.kind))
        return cls(examples, np.array(kept, dtype=np.int64), costs, kinds, dropped)

    def positions(self, budget: int, window: int, seed: int, epoch: int) -> list[np.ndarray]:
        """An epoch's batches as positions in `items`."""
        return make_batches(self.costs, self.kinds, budget, window, seed, epoch)

    def drop(self, samples: dict[str, str]) -> dict[str, str]:
        """Note what turned out to be unusable; returns what was not known before."""
        new = {name: reason for name, reason in samples.items() if name not in self.dropped}
        self.dropped.update(new)
        return new
