"""Continuous integrate-and-fire: xllm against PyPI's torch-cif and a per-frame loop, one thread, one run.

    pip install --no-deps --target /tmp/torch-cif torch-cif
    PYTHONPATH=/tmp/torch-cif python benchmarks/cif.py

Every form integrates the same frames under the same weights, scaled to the same numbers of tokens, and takes
the gradient of both. Times are medians of CPU time, the calls of all forms alternating: whatever else runs on the
machine counts for nothing or slows all alike. Errors are against a float64 loop; lengths are counted on rows of
their own, scaled (`targets`) and unscaled.
"""

import ctypes
import platform
import statistics
import sys
import time

import torch
from torch import Tensor

from xllm.speech.cif import integrate_and_fire

SIZES = [(16, 250, 512), (16, 1000, 512), (4, 3000, 512)]
FAST_ROUNDS, LOOP_ROUNDS = 30, 3
LENGTH_ROWS = 320

try:
    from torch_cif import cif_function
except ImportError:
    sys.exit(
        "torch-cif is not installed: pip install --no-deps --target /tmp/torch-cif torch-cif\n"
        "and run again with PYTHONPATH=/tmp/torch-cif"
    )


def ours(hidden: Tensor, alphas: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    out = integrate_and_fire(hidden, alphas, targets=targets)
    return out.embeddings, out.lengths


def torch_cif(hidden: Tensor, alphas: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    out = cif_function(hidden, alphas, target_lengths=targets)
    return out["cif_out"][0], out["cif_lengths"][0]


def loop(hidden: Tensor, alphas: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """Frame by frame, all rows of the batch at once, as the public loops do it; fires at a sum of 1.0."""
    if targets is not None:
        alphas = alphas * (targets / alphas.sum(1))[:, None]
    batch, frames, width = hidden.shape
    total, vector = alphas.new_zeros(batch), hidden.new_zeros(batch, width)
    tokens: list[list[Tensor]] = [[] for _ in range(batch)]
    for t in range(frames):
        alpha = alphas[:, t]
        while True:
            fires = total + alpha >= 1.0
            part = torch.where(fires, 1.0 - total, alpha)
            vector = vector + part[:, None] * hidden[:, t]
            if not fires.any():
                total = total + part
                break
            for row in fires.nonzero().flatten().tolist():
                tokens[row].append(vector[row])
            vector = torch.where(fires[:, None], 0.0, vector)
            total, alpha = torch.where(fires, 0.0, total + part), torch.where(fires, alpha - part, 0.0)
    if targets is None:
        for row in (total > 0.5).nonzero().flatten().tolist():
            tokens[row].append(vector[row] / total[row])
    lengths = torch.tensor([len(row) for row in tokens])
    padded = [torch.stack(row) if row else hidden.new_zeros(0, width) for row in tokens]
    return torch.nn.utils.rnn.pad_sequence(padded, batch_first=True), lengths


FORMS = {"xllm": ours, "torch-cif": torch_cif, "loop": loop}


def realistic(batch: int, frames: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, weights of mean 0.3 as a sigmoid gives them, and the whole numbers nearest to their sums."""
    alphas = torch.sigmoid(torch.randn(batch, frames) * 1.5 - 1.15)
    return torch.randn(batch, frames, width), alphas, alphas.sum(1).round().long()


def step(form, hidden: Tensor, alphas: Tensor, targets: Tensor, weights: Tensor) -> float:
    """CPU seconds of one forward and backward pass."""
    hidden.grad = alphas.grad = None
    start = time.process_time()
    embeddings, _ = form(hidden, alphas, targets)
    # A loop that loses its last fire comes back one token short.
    embeddings.backward(weights[:, : embeddings.shape[1]])
    return time.process_time() - start


def max_error(form, hidden: Tensor, alphas: Tensor, targets: Tensor) -> float:
    """Largest difference from the float64 loop over the tokens both have."""
    with torch.no_grad():
        # A hair more than N, so that the float64 loop never loses its last fire.
        scaled = alphas.double() * ((targets + 1e-9) / alphas.double().sum(1))[:, None]
        exact, lengths = loop(hidden.double(), scaled, None)
        assert lengths.tolist() == targets.tolist()
        found, lengths = form(hidden, alphas, targets)
        return max(
            (found[row, :n].double() - exact[row, :n]).abs().max().item()
            for row, n in enumerate(lengths.minimum(targets).tolist())
        )


def wrong_lengths(form) -> str:
    """Rows with a wrong number of tokens, scaled and unscaled."""
    hidden, alphas, targets = realistic(LENGTH_ROWS, 250, 4)
    scaled = (form(hidden, alphas, targets)[1] != targets).sum().item()
    exact = loop(hidden.double(), alphas.double(), None)[1]
    unscaled = (form(hidden, alphas, None)[1] != exact).sum().item()
    return f"{scaled} + {unscaled}"


def keep_freed_memory() -> None:
    """Stop glibc from handing freed buffers back to the kernel after every call.

    Which call then pays for the page faults is chance, and on a virtual machine they cost more than the arithmetic.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large buffers come from the heap,
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: which never shrinks


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"torch {torch.__version__}, one thread, float32, forward + backward, CPU time")
    print(f"medians of {FAST_ROUNDS} interleaved calls, {LOOP_ROUNDS} for the loop")
    print(f"{'B/U/D':>14} {'form':>10} {'ms':>10} {'x xllm':>8} {'max error':>10}")
    for size in SIZES:
        hidden, alphas, targets = realistic(*size)
        weights = torch.randn(size[0], int(targets.max()), size[2])
        errors = {name: max_error(form, hidden, alphas, targets) for name, form in FORMS.items()}
        hidden.requires_grad_()
        alphas.requires_grad_()
        seconds: dict[str, list[float]] = {name: [] for name in FORMS}
        for turn in range(FAST_ROUNDS):
            for name, form in FORMS.items():
                if name != "loop":
                    # Untimed: what the caches hold is then the form's own, not what the one before it left.
                    step(form, hidden, alphas, targets, weights)
                if name != "loop" or turn < LOOP_ROUNDS:
                    seconds[name].append(step(form, hidden, alphas, targets, weights))
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        for name, median in medians.items():
            print(
                f"{'/'.join(map(str, size)):>14} {name:>10} {1e3 * median:10.2f} "
                f"{median / medians['xllm']:8.1f} {errors[name]:10.1e}"
            )
    print(f"\nwrong lengths in {LENGTH_ROWS} scaled + {LENGTH_ROWS} unscaled rows of 250 frames")
    for name, form in FORMS.items():
        print(f"{name:>14} {wrong_lengths(form)}")


if __name__ == "__main__":
    main()
