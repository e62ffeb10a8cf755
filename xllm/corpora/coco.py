"""MSCOCO captions (Lin et al. 2014): five English sentences for each photograph."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.json_files import items
from xllm.corpora.raw import Raw
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {split: f"captions_{split}.json" for split in ("train2014", "val2014", "train2017", "val2017")}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Annotations in the file's order; images in a folder of the split's name."""
    captions = raw.one(SPLITS[split])
    files = {image["id"]: image["file_name"] for image in items(raw, captions, "images.item")}
    above = captions.rpartition("annotations/")[0]
    for row in items(raw, captions, "annotations.item"):
        name = files.get(row["image_id"])
        if name is None:
            yield Dropped(f"coco-{row['id']}", "no such image", str(row["image_id"]))
            continue
        yield {
            "id": f"coco-{row['id']}",
            "image": (f"{above}{split}/{name}", f"{above}images/{split}/{name}", f"{above}images/{name}"),
            "response": row["caption"],
        }


CORPUS = Corpus(
    name="coco",
    title="MSCOCO captions",
    kind="image",
    language="en",
    size="567,000 captions of 113,000 images, 20 GB",
    licence="captions CC BY 4.0; photographs under their owners' Flickr terms",
    where="https://cocodataset.org/#download",
    used="1, 2 image",
    splits=SPLITS,
    layout="annotations/captions_train2014.json, … and train2014/, val2014/ (or their zips, as they came)",
    read=read,
)
