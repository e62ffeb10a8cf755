"""SBU captions (Ordonez et al. 2011): a million photographs of Flickr with their owners' sentences."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.img2dataset import listed, samples
from xllm.corpora.json_files import items
from xllm.corpora.raw import Raw
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {"train": "sbu-captions-all.json"}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """The entries of the list; without it, all pictures that are there."""
    if not (lists := raw.find(SPLITS[split])):
        return samples(raw, "sbu")
    return listed(raw, _entries(raw, lists[0]))


def _entries(raw: Raw, name: str) -> Iterator[tuple[str, str, str]]:
    """Two lists of the same length in one file."""
    both = (items(raw, name, f"{key}.item") for key in ("image_urls", "captions"))
    for number, (url, caption) in enumerate(zip(*both, strict=True), start=1):
        yield f"sbu-{number}", url, caption


CORPUS = Corpus(
    name="sbu",
    title="SBU captions",
    kind="image",
    language="en",
    size="1 million captions and addresses; pictures by img2dataset, 30 GB at 256 pixels",
    licence="none stated; photographs under their owners' Flickr terms",
    where="https://www.cs.rice.edu/~vo9/sbucaptions/",
    used="1, 2 image",
    splits=SPLITS,
    layout="img2dataset's folders or tar shards and, to count what is missing, sbu-captions-all.json",
    read=read,
)
