"""How well a linear classifier on the frozen image encoder names photographs: what an interface has to beat.

    python recipes/base/probe.py data/base effnet                # a folder with timm's tf_efficientnet_lite2

reads OUT/photos-{train,dev,test}.jsonl, which pictures.py wrote; features are those of the whole image, the encoder's
last token. The weight decay is chosen on `dev`. Some 0.12 s an image on one core.
"""

import argparse
import random
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from xllm.config import ModelConfig, VisionEncoderConfig
from xllm.manifest import iterate_manifest
from xllm.modalities import MODALITIES
from xllm.vision.encoder import VisionEncoder

BATCH = 8
DECAYS = (1e-5, 1e-4, 1e-3)


@torch.inference_mode()
def features(encoder: VisionEncoder, rows: list[dict]) -> Tensor:
    """The last token [D] of each row's image: [N, D]."""
    config, found = ModelConfig(vision=encoder.config), []
    for start in range(0, len(rows), BATCH):
        images = [MODALITIES["image"].load(Path(row["image"][0]), config, None) for row in rows[start : start + BATCH]]
        found.append(encoder(torch.cat(images))[:, -1])
    return torch.cat(found).clone()


def fit(inputs: Tensor, targets: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Weights [C, D] and biases [C] of a softmax classifier of standardised `inputs` [N, D]."""
    weights = torch.zeros(classes, inputs.shape[1], requires_grad=True)
    biases = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, biases], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(inputs @ weights.T + biases, targets)
        loss = loss + decay * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(loss)
    return weights.detach(), biases.detach()


def at_most(rows: list[dict], count: int) -> list[int]:
    """Numbers of rows, of which `count` have the same name at most, drawn at random."""
    seen: Counter[str] = Counter()
    kept = []
    for number in random.Random(0).sample(range(len(rows)), len(rows)):
        seen[rows[number]["response"]] += 1
        if seen[rows[number]["response"]] <= count:
            kept.append(number)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("weights", help="folder with model.safetensors of the encoder")
    parser.add_argument("--name", default="tf_efficientnet_lite2", help="of timm's model")
    given = parser.parse_args()
    encoder = VisionEncoder(VisionEncoderConfig(name=given.name, pretrained=given.weights)).eval()
    rows, inputs = {}, {}
    for split in ("train", "dev", "test"):
        found = iterate_manifest(given.out / f"photos-{split}.jsonl")
        rows[split] = [row for row in found if row["instruction"]]  # others are captions
        inputs[split] = features(encoder, rows[split])
    mean, deviation = inputs["train"].mean(0), inputs["train"].std(0) + 1e-3
    inputs = {split: (values - mean) / deviation for split, values in inputs.items()}
    names = sorted({row["response"] for row in rows["train"]})
    targets = torch.tensor([names.index(row["response"]) for row in rows["train"]])

    def accuracy(split: str, weights: Tensor, biases: Tensor) -> float:
        chosen = (inputs[split] @ weights.T + biases).argmax(1).tolist()
        right = [names[number] in row["accept"] for number, row in zip(chosen, rows[split], strict=True)]
        return sum(right) / len(right)

    for count in (7, len(rows["train"])):
        kept = at_most(rows["train"], count)
        tried = [fit(inputs["train"][kept], targets[kept], len(names), decay) for decay in DECAYS]
        best = max(tried, key=lambda classifier: accuracy("dev", *classifier))
        figures = ", ".join(f"{split} {100 * accuracy(split, *best):.1f}%" for split in ("dev", "test"))
        print(f"{len(kept)} photographs of {len(names)} names, at most {count} each: {figures}")


if __name__ == "__main__":
    main()
