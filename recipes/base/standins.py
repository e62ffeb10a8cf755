"""Stand-ins for images of what no photograph of `base` shows: ImageNet's classes, as its classifier knows them.

    python recipes/base/standins.py data/base effnet                # a folder with timm's tf_efficientnet_lite2

reads OUT/photos-train.jsonl, which pictures.py wrote, and writes OUT/standins-train.jsonl and OUT/standins/*.npy. For
each class whose Chinese name (imagenet_zh.txt) is none of these photographs', COUNT photographs are drawn; in what the
classifier says of one, the likeliest class and this class change places, and all else stays. The encoder makes tokens
of that (`vision.classes`, xllm/vision/standins.py). Names are of the ideographs of --units, or else of GB 2312.
Some 0.12 s a photograph on one core.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pictures import gb2312, row, sayable
from torch import Tensor

from xllm.config import ModelConfig, VisionEncoderConfig
from xllm.files import write_jsonl_atomic
from xllm.manifest import iterate_manifest
from xllm.modalities import MODALITIES
from xllm.vision.encoder import VisionEncoder

NAMES = Path(__file__).parent / "imagenet_zh.txt"
COUNT = 4  # of a class
PHOTOGRAPHS = 400  # to draw from


@torch.inference_mode()
def describe(encoder: VisionEncoder, images: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """The mean feature [D] of each image and what the classifier says of it [C]."""
    config = ModelConfig(vision=encoder.config)
    for image in images:
        pixels = MODALITIES["image"].load(image, config, None)
        features = encoder.vit.forward_features((pixels - encoder.mean) / encoder.std)  # [1, D, H, W]
        yield features.mean((2, 3))[0], encoder.vit.forward_head(features)[0]


def exchange(logits: Tensor, wanted: int) -> Tensor:
    """`logits` [C] where the highest and the wanted class' change places."""
    changed, highest = logits.clone(), int(logits.argmax())
    changed[[wanted, highest]] = logits[[highest, wanted]]
    return changed


def class_names() -> dict[int, str]:
    """ImageNet's classes by number."""
    lines = NAMES.read_text(encoding="utf-8").splitlines()
    return {int(number): name for number, name in (line.split("\t") for line in lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("weights", help="folder with model.safetensors of the encoder")
    parser.add_argument("--name", default="tf_efficientnet_lite2", help="of timm's convolutional model")
    parser.add_argument("--units", type=Path, help="characters that names may have, one a line")
    given = parser.parse_args()
    known = set(given.units.read_text(encoding="utf-8").split()) if given.units else gb2312()
    config = VisionEncoderConfig(name=given.name, pretrained=given.weights, classes=True)
    encoder, chance = VisionEncoder(config).eval(), random.Random(0)
    photos = [one for one in iterate_manifest(given.out / "photos-train.jsonl") if one["instruction"]]
    drawn = chance.sample(photos, min(PHOTOGRAPHS, len(photos)))
    described = list(describe(encoder, [one["image"][0] for one in drawn]))
    classes, shown = class_names(), {name for one in photos for name in one["accept"]}
    names = {number: name for number, name in classes.items() if name not in shown and sayable(name, known)}
    rows = []
    (given.out / "standins").mkdir(parents=True, exist_ok=True)
    for number, name in names.items():
        for place, (mean, logits) in enumerate(chance.choices(described, k=COUNT)):
            image = f"standins/{number:03d}-{place}.npy"
            features = torch.stack([mean, encoder.mean_class(exchange(logits, number))])
            np.save(given.out / image, features.numpy(force=True).astype(np.float16))
            rows.append(row(image.removesuffix(".npy"), image, name, [name], varied=True))
    write_jsonl_atomic(given.out / "standins-train.jsonl", rows)
    print(f"standins-train: {len(rows)} rows of {len(set(names.values()))} names")
    print(f"left out: {len(classes) - len(names)} of {len(classes)} classes, shown or with other characters")


if __name__ == "__main__":
    main()
