"""Flickr30k-CN (Lan et al. 2017): Flickr30k's captions in Chinese, with its images, as Chinese-CLIP gives them."""

import binascii
import json
from base64 import b64decode
from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.raw import Raw
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {split: f"{split}_texts.jsonl" for split in ("train", "valid", "test")}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Captions of `<split>_texts.jsonl`; images from the base64 in `<split>_imgs.tsv`."""
    texts = raw.one(SPLITS[split])
    pictures = texts.removesuffix("_texts.jsonl") + "_imgs"
    raw.unpack(pictures, lambda: _pictures(raw, pictures))
    for number, line in enumerate(raw.lines(texts), start=1):
        name = f"flickr30k-cn-{split}-{number}"
        try:
            text = json.loads(line)
            image, words = text["image_ids"][0], text["text"]
        except (ValueError, LookupError, TypeError, RecursionError):
            yield Dropped(name, "broken line", line[:80], failed=True)
        else:
            yield {"id": name, "image": f"{pictures}/{image}.jpg", "response": words}


def _pictures(raw: Raw, folder: str) -> Iterator[tuple[str, bytes]]:
    """Lines `id<TAB>base64`; one that is damaged gives no picture."""
    for line in raw.lines(f"{folder}.tsv"):
        number, _, data = line.partition("\t")
        try:
            picture = b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            continue
        if number.isascii() and number.isdigit() and picture:
            yield f"{folder}/{number}.jpg", picture


CORPUS = Corpus(
    name="flickr30k-cn",
    title="Flickr30k-CN",
    kind="image",
    language="zh",
    size="159,000 captions of 31,800 images, 3 GB, and as much again in OUT",
    licence="research only; photographs under their owners' Flickr terms",
    where="https://github.com/OFA-Sys/Chinese-CLIP#datasets",
    used="1, 2 image",
    splits=SPLITS,
    layout="train_texts.jsonl, train_imgs.tsv, and so for valid and test (or Flickr30k-CN.zip)",
    read=read,
)
