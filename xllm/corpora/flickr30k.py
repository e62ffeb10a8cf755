"""Flickr30k (Young et al. 2014): five English sentences for each of 31,783 photographs."""

import re
from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.raw import Raw, near
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {"all": "results*.[ct]*"}  # results_20130124.token, or Kaggle's results.csv
LINE = re.compile(r"(?P<picture>[^#|\t]+)[#|] ?(?P<number>\d+)[|\t](?P<words>.*)")  # name.jpg#0<TAB>…, name.jpg| 0|…
HEADER = "image_name| comment_number| comment"
FOLDERS = ("flickr30k-images", "flickr30k_images", "images")


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Captions in the file's order."""
    name = raw.one(SPLITS[split])
    for number, line in enumerate(raw.lines(name), start=1):
        if found := LINE.fullmatch(line):
            picture = found["picture"]
            yield {
                "id": f"flickr30k-{picture}-{found['number']}",
                "image": near(name, *(f"{folder}/{picture}" for folder in FOLDERS)),
                "response": found["words"].strip(),
            }
        elif line and line != HEADER:
            yield Dropped(f"flickr30k:{number}", "broken line", line[:80], failed=True)


CORPUS = Corpus(
    name="flickr30k",
    title="Flickr30k",
    kind="image",
    language="en",
    size="159,000 captions of 31,800 images, 4.4 GB",
    licence="research and education only, by request; photographs under their owners' Flickr terms",
    where="https://shannon.cs.illinois.edu/DenotationGraph/",
    used="1, 2 image",
    splits=SPLITS,
    layout="results_20130124.token and flickr30k-images/ (or their archives, as they came)",
    read=read,
)
