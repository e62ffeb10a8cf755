"""Conceptual Captions 3M (Sharma et al. 2018): English sentences found beside pictures on the web."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.img2dataset import listed, samples
from xllm.corpora.raw import Raw
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {"train": "Train*.tsv", "validation": "Validation*.tsv"}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """The entries of the list; without one, all pictures count as train."""
    if split == "train" and not raw.find(SPLITS[split]):
        return samples(raw, "cc3m")
    return listed(raw, _entries(raw, split))


def _entries(raw: Raw, split: str) -> Iterator[tuple[str, str, str] | Dropped]:
    """Lines `caption<TAB>address`; img2dataset's instructions put a header there."""
    for number, line in enumerate(raw.lines(raw.one(SPLITS[split])), start=1):
        caption, tab, url = line.rpartition("\t")
        name = f"cc3m-{split}-{number}"
        if tab and line != "caption\turl":
            yield name, url, caption
        elif line and not tab:
            yield Dropped(name, "broken line", line[:80], failed=True)


CORPUS = Corpus(
    name="cc3m",
    title="Conceptual Captions 3M",
    kind="image",
    language="en",
    size="3.3 million captions and addresses; pictures by img2dataset, 100 GB at 256 pixels",
    licence="list free for any use, with credit to Google; pictures under their owners' terms",
    where="https://ai.google.com/research/ConceptualCaptions/download",
    used="1, 2 image",
    splits=SPLITS,
    layout="img2dataset's folders or tar shards and, to count what is missing, Train_….tsv, Validation_….tsv",
    read=read,
)
