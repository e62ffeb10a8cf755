"""MiniGPT-4's second-stage data (Zhu et al. 2023): 3,439 pictures described at length."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.json_files import items
from xllm.corpora.raw import Raw, near
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {"train": "filter_cap.json"}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Annotations in the file's order. They have no instructions: `prepare-data instructions` words them."""
    name = raw.one(SPLITS[split])
    for row in items(raw, name, "annotations.item"):
        picture = near(name, f"image/{row['image_id']}.jpg")
        yield {"id": f"minigpt4-{row['image_id']}", "image": picture, "response": row["caption"]}


CORPUS = Corpus(
    name="minigpt4",
    title="MiniGPT-4 alignment",
    kind="instructions",
    language="en",
    size="3,439 descriptions, 0.4 GB",
    licence="none stated (its code is BSD 3-clause); pictures under their owners' terms",
    where="https://github.com/Vision-CAIR/MiniGPT-4/blob/main/dataset/README_2_STAGE.md",
    used="3",
    splits=SPLITS,
    layout="cc_sbu_align.zip, or filter_cap.json and image/",
    read=read,
)
