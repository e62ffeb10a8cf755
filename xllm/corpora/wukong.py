"""Wukong (Gu et al. 2022): a hundred million Chinese pairs of picture and text from the web.

The paper keeps those that CLIP finds alike: `prepare-data filter --clip MODEL --min-similarity 0.45`.
"""

import csv
from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.img2dataset import listed, samples
from xllm.corpora.raw import Raw
from xllm.errors import XLLMError
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {"train": "wukong_100m_*.csv"}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """The entries of the lists that are there; without any, all pictures that are there."""
    if not (lists := raw.find(SPLITS[split])):
        return samples(raw, "wukong")
    return listed(raw, _entries(raw, lists))


def _entries(raw: Raw, lists: list[str]) -> Iterator[tuple[str, str, str] | Dropped]:
    """`url,caption` under a header, file by file in the order of their numbers."""
    for name in sorted(lists, key=lambda name: (len(name), name)):
        part = name.rpartition("_")[2].removesuffix(".csv")
        try:
            for number, row in enumerate(csv.reader(line.replace("\r", " ") for line in raw.lines(name))):
                if len(row) == 2 and number:
                    yield f"wukong-{part}-{number}", *row
                elif row and number:
                    yield Dropped(f"wukong-{part}-{number}", "broken line", ",".join(row)[:80], failed=True)
        except csv.Error as error:
            raise XLLMError(f"{raw.root}/{name}: damaged CSV ({error})") from None


CORPUS = Corpus(
    name="wukong",
    title="Wukong",
    kind="image",
    language="zh",
    size="100 million captions and addresses, of which the paper keeps 10 million; 2 TB at 256 pixels",
    licence="CC BY-NC-SA 4.0; pictures under their owners' terms",
    where="https://wukong-dataset.github.io/wukong-dataset/download.html",
    used="1, 2 image",
    splits=SPLITS,
    layout="img2dataset's folders or tar shards and, to count what is missing, wukong_100m_0.csv, …",
    read=read,
)
