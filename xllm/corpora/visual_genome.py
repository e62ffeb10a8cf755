"""Visual Genome (Krishna et al. 2017): fifty English phrases for regions of each photograph, taken as captions."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.json_files import items
from xllm.corpora.raw import Raw, near
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {"train": "region_descriptions.json"}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Regions in the file's order, with the whole photograph each."""
    name = raw.one(SPLITS[split])
    for image in items(raw, name, "item"):
        picture = None
        for region in image["regions"]:
            if picture is None:
                picture = near(name, *(f"{folder}/{region['image_id']}.jpg" for folder in ("VG_100K", "VG_100K_2")))
            yield {"id": f"vg-{region['region_id']}", "image": picture, "response": region["phrase"]}


CORPUS = Corpus(
    name="vg",
    title="Visual Genome region descriptions",
    kind="image",
    language="en",
    size="5.4 million phrases of 108,000 images, 15 GB",
    licence="CC BY 4.0",
    where="https://homes.cs.washington.edu/~ranjay/visualgenome/api.html",
    used="1, 2 image",
    splits=SPLITS,
    layout="region_descriptions.json and VG_100K/, VG_100K_2/ (or their zips, as they came)",
    read=read,
)
