"""Claims at the paper's size, on one GPU with random weights: decoding near the memory's bound, training near the peak.

    python benchmarks/gpu/paper_scale.py [--recipe recipes/paper.yaml] [--device cuda] [key=value ...]

Measures this card's matmul rate and memory bandwidth first, then, each beside the naive way in the same run: tokens/s
of one answer (key-value cache against none), a training step of stage 2 image (head on answers only against full
logits), one of stage 2 speech from cached token vectors, pictures/s of the image encoder; and peak memory of each.
Nobody has run it on a GPU yet: no session was lent one since it was written. To try the script itself:

    python benchmarks/gpu/paper_scale.py --recipe recipes/tiny.yaml --device cpu model.image={} model.vision.channels=[]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from xllm.config import load_recipe
from xllm.training.survey import meta_parts

PROMPT, ANSWER = 96, 32  # tokens around and of an answer
ROUNDS = 5


class Card:
    """The device, its clock and its memory."""

    def __init__(self, device: torch.device):
        self.device = device
        self.cuda = device.type == "cuda"

    def seconds(self, work: Callable[[], object]) -> float:
        """Median of some rounds, after one to warm up."""
        times = []
        for _ in range(ROUNDS + 1):
            self._wait()
            begun = time.perf_counter()
            work()
            self._wait()
            times.append(time.perf_counter() - begun)
        return statistics.median(times[1:])

    def peak_gb(self, work: Callable[[], object]) -> float:
        """Peak memory while working; 0 where the device does not count it."""
        if not self.cuda:
            return 0.0
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() / 1e9

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def matmul_rate(self) -> float:
        """Operations per second of a large product in bfloat16."""
        size = 8192 if self.cuda else 1024
        a, b = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * size**3 / self.seconds(lambda: a @ b)

    def bandwidth(self) -> float:
        """Bytes per second that are read and written when a large tensor is copied."""
        source = torch.empty(1 << (31 if self.cuda else 27), dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2 * source.numel() / self.seconds(lambda: target.copy_(source))


def with_weights(part: nn.Module, device: torch.device) -> nn.Module:
    """A part of the meta device with small random numbers, bfloat16, frozen."""
    part = part.to(torch.bfloat16).to_empty(device=device)
    with torch.no_grad():
        for tensor in (*part.parameters(), *part.buffers()):
            if tensor.is_floating_point():
                tensor.normal_(std=0.02)
            else:
                tensor.zero_()
    return part.requires_grad_(False).eval()


def decode(llm: nn.Module, embeds: Tensor, tokens: int, cached: bool) -> None:
    """Greedy tokens one after another."""
    cache, given = None, embeds
    for _ in range(tokens):
        out = llm(inputs_embeds=given, cache=cache, use_cache=cached)
        new = llm.get_input_embeddings()(out.logits[:, -1:].argmax(-1))
        cache = out.cache if cached else None
        given = new if cached else torch.cat([given, new], dim=1)


def training_step(interface: nn.Module, llm: nn.Module, tokens: Tensor, lengths: Tensor, full: bool) -> None:
    """Forward and backward of stage 2: interface, frozen LLM, loss of the answers."""
    embeddings, _ = interface(tokens, lengths)
    rest = torch.zeros(len(embeddings), PROMPT, embeddings.shape[-1], device=embeddings.device, dtype=embeddings.dtype)
    embeds = torch.cat([embeddings, rest], dim=1)
    hidden = llm.base_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    hidden = hidden if full else hidden[:, -ANSWER:]
    logits = llm.get_output_embeddings()(hidden).float()
    targets = torch.zeros(logits.shape[:2], dtype=torch.long, device=logits.device)
    nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    interface.zero_grad(set_to_none=True)


def operations(llm: nn.Module, interface: nn.Module, rows: int, length: int) -> float:
    """Of a training step: forward 2 and backward to the inputs 2 for each weight and token; 2 more where it trains."""
    frozen = sum(p.numel() for p in llm.base_model.parameters()) - llm.get_input_embeddings().weight.numel()
    head = llm.get_input_embeddings().weight.numel() * ANSWER / length
    trained = sum(p.numel() for p in interface.parameters())
    return rows * (4 * (frozen + head) * length + 6 * trained * (length - PROMPT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/paper.yaml"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--rows", type=int, default=16, help="samples of a training step")
    given = parser.parse_args()
    device = torch.device(given.device)
    card = Card(device)
    config = load_recipe(given.recipe, given.overrides).model
    parts = meta_parts(config)
    llm, vision = (with_weights(parts[name], device) for name in ("llm", "vision"))
    width, rows = llm.get_input_embeddings().weight.shape[1], given.rows
    rate, speed = card.matmul_rate(), card.bandwidth()
    print(f"{torch.cuda.get_device_name() if card.cuda else 'CPU'}: {rate / 1e12:.1f} TFLOP/s, {speed / 1e9:.0f} GB/s")

    prompt = torch.randn(1, PROMPT, width, device=device, dtype=torch.bfloat16) * 0.02
    with torch.inference_mode():
        fast, slow = (card.seconds(lambda c=c: decode(llm, prompt, ANSWER, c)) for c in (True, False))
    read = 2 * (sum(p.numel() for p in llm.parameters()))
    share = read * ANSWER / fast / speed
    print(f"decode, one answer: {ANSWER / fast:.1f} tokens/s, {100 * share:.0f}% of the bandwidth's bound; "
          f"without cache {ANSWER / slow:.1f}, {slow / fast:.1f} times slower")  # fmt: skip

    pictures = torch.rand(rows, 3, config.vision.size, config.vision.size, device=device, dtype=torch.bfloat16)
    with torch.inference_mode():
        took = card.seconds(lambda: vision(pictures))
        patches = vision(pictures[:1])
    print(f"image encoder: {rows / took:.1f} pictures/s")

    lengths = torch.ones(rows, dtype=torch.long, device=device)
    seen = patches[:, None].expand(rows, 1, -1, -1).clone()
    heard = torch.randn(rows, 16, parts["recognizer"].token_width, device=device, dtype=torch.bfloat16)
    for name, tokens, sizes in (("image", seen, lengths), ("speech", heard, lengths * 16)):
        interface = with_weights(parts[name], device).requires_grad_(True).train()
        steps = [partial(training_step, interface, llm, tokens, sizes, full) for full in (False, True)]
        lean, whole = map(card.seconds, steps)
        length = PROMPT + (config.image.queries if name == "image" else 16)
        used = operations(llm, interface, rows, length) / lean / rate
        memory = [*map(card.peak_gb, steps)]
        print(f"stage 2 {name}, {rows} samples: {rows / lean:.1f}/s, {100 * used:.0f}% of the matmul rate, "
              f"{memory[0]:.1f} GB; full logits {rows / whole:.1f}/s, {memory[1]:.1f} GB")  # fmt: skip


if __name__ == "__main__":
    main()
