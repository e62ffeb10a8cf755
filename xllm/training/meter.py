"""What a training line shows: means since the last one, and where the time went."""

import time

from torch import Tensor, stack


class Meter:
    """Means since the last reading: losses, samples per second, share of time spent waiting for data."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.started, self.waited, self.samples, self.batches = time.perf_counter(), 0.0, 0, 0
        self.totals: dict[str, list[Tensor]] = {}

    def wait(self, seconds: float) -> None:
        self.waited += seconds

    def add(self, losses: dict[str, Tensor], samples: int) -> None:
        self.samples += samples
        self.batches += 1
        for key, value in losses.items():
            self.totals.setdefault(key, []).append(value)

    def read(self) -> dict[str, float]:
        """The means, then start again."""
        spent = max(time.perf_counter() - self.started, 1e-9)
        numbers = {key: round(float(stack(values).float().mean()), 5) for key, values in self.totals.items()}
        numbers |= {
            "samples_s": round(self.samples / spent, 1),
            "data_wait": round(self.waited / spent, 3),
            "batch_s": spent / max(1, self.batches),
        }
        self._reset()
        return numbers
