"""Steps for tests, in a module that other processes can import."""

from xllm.errors import XLLMError
from xllm.steps.rows import Dropped


class Halve:
    """Drops odd numbers, fails on multiples of 10, and makes two rows of multiples of 4."""

    def __call__(self, rows):
        return [self.made(row) for row in rows]

    def made(self, row):
        number = int(row["id"])
        if number % 10 == 0:
            return Dropped(row["id"], "broken", "a multiple of ten", failed=True)
        if number % 2:
            return Dropped(row["id"], "odd")
        return [{"id": f"{number}-{k}"} for k in range(2)] if number % 4 == 0 else {"id": row["id"]}


class Fails:
    def __call__(self, rows):
        raise XLLMError("the model is not there")


def fill_cache(folder):
    """In a process of its own: 300 items in parts of 4, each noted in a file when it is computed; what came out."""
    import time

    import torch

    from xllm.training import cache

    cache.PART = 4

    def compute(items):
        time.sleep(0.002)
        for item in items:
            with (folder / "computed").open("a") as out:
                out.write(f"{item}\n")
            yield torch.full((1, 1), float(item))

    found = cache.Cache(folder).ragged({}, [str(i) for i in range(300)], compute)
    return [float(found[i]) for i in range(300)]
