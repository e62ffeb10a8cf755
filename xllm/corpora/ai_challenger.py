"""AI Challenger image captions (Wu et al. 2017): five Chinese sentences for each of 240,000 photographs."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.json_files import items
from xllm.corpora.raw import Raw, near
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {
    "train": "caption_train_annotations_20170902.json",
    "validation": "caption_validation_annotations_20170910.json",
}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """The sentences of each picture, in the file's order."""
    name = raw.one(SPLITS[split])
    folder = SPLITS[split].replace("annotations", "images").removesuffix(".json")
    for image in items(raw, name, "item"):
        picture = near(name, f"{folder}/{image['image_id']}")
        for number, caption in enumerate(image["caption"]):
            yield {"id": f"ai-challenger-{image['image_id']}-{number}", "image": picture, "response": caption}


CORPUS = Corpus(
    name="ai-challenger",
    title="AI Challenger captions",
    kind="image",
    language="zh",
    size="1.2 million captions of 240,000 images, 25 GB",
    licence="research only; the competition's site is closed",
    where="https://github.com/AIChallenger/AI_Challenger_2017",
    used="1, 2 image",
    splits=SPLITS,
    layout="caption_train_annotations_20170902.json with caption_train_images_20170902/, and so for validation",
    read=read,
)
