"""VisDial 1.0 (Das et al. 2017): ten questions and answers about a photograph whose caption the asker has read.

A row is a dialogue; `prepare-data turns` makes a row of each question. recipes/data/vsdial-cn.yaml makes VSDial-CN.
"""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.json_files import items
from xllm.corpora.raw import Raw, near
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {split: f"visdial_1.0_{split}.json" for split in ("train", "val", "test")}
IMAGES = {  # those of train are COCO's, of either part
    "train": ("train2014/COCO_train2014_{:012}.jpg", "val2014/COCO_val2014_{:012}.jpg"),
    "val": ("VisualDialog_val2018/VisualDialog_val2018_{:012}.jpg",),
    "test": ("VisualDialog_test2018/VisualDialog_test2018_{:012}.jpg",),
}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Dialogues with their words in place of the indices. In the test split the last question has no answer: ""."""
    name = raw.one(SPLITS[split])
    # Each at once: 380,000 and 340,000 short texts. They are looked for first, wherever in the file they stand.
    questions, answers = (next(items(raw, name, f"data.{key}"), []) for key in ("questions", "answers"))
    for dialogue in items(raw, name, "data.dialogs.item"):
        number = dialogue["image_id"]
        try:
            history = [
                {
                    "instruction": _text(questions, turn["question"]),
                    "response": _text(answers, turn["answer"]) if "answer" in turn else "",
                }
                for turn in dialogue["dialog"]
            ]
        except IndexError as error:
            yield Dropped(f"visdial-{split}-{number}", "no such text", str(error))
            continue
        yield {
            "id": f"visdial-{split}-{number}",
            "image": near(name, *(path.format(number) for path in IMAGES[split])),
            "caption": dialogue["caption"],
            "history": history,
        }


def _text(texts: list[str], index: int) -> str:
    if not 0 <= index < len(texts):
        raise IndexError(f"{index} of {len(texts)}")
    return texts[index]


CORPUS = Corpus(
    name="visdial",
    title="VisDial 1.0, which VSDial-CN is made from",
    kind="dialogue",
    language="en",
    size="133,000 dialogues of 10 questions, 133,000 images, 20 GB with COCO's",
    licence="CC BY 4.0; photographs under their owners' Flickr terms",
    where="https://visualdialog.org/data",
    used="1, 2 speech, 3",
    splits=SPLITS,
    layout="visdial_1.0_{train,val,test}.json, COCO's train2014/ and val2014/, VisualDialog_{val2018,test2018}/ beside",
    read=read,
)
