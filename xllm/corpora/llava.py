"""LLaVA's instructions (Liu et al. 2023): conversations about COCO photographs, by GPT-4, which has not seen them."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.json_files import items
from xllm.corpora.raw import Raw, near
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {
    "all": "llava_instruct_150k.json",
    "conversation": "conversation_58k.json",
    "detail": "detail_23k.json",
    "complex": "complex_reasoning_77k.json",
}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """One row for each answer, with the turns before it as history."""
    name = raw.one(SPLITS[split])
    for number, dialogue in enumerate(items(raw, name, "item"), start=1):
        key = f"llava-{split}-{number}"  # one photograph has several dialogues
        said = [turn["value"].replace("<image>", "").strip() for turn in dialogue["conversations"]]
        who = [turn["from"] for turn in dialogue["conversations"]]
        if not said or who != ["human", "gpt"] * (len(who) // 2):
            yield Dropped(key, "broken dialogue", " ".join(who)[:80], failed=True)
            continue
        picture = dialogue["image"]
        images = near(name, f"train2017/{picture}", f"train2014/COCO_train2014_{picture}")
        turns = [{"instruction": q, "response": a} for q, a in zip(said[::2], said[1::2], strict=True)]
        for turn, asked in enumerate(turns):
            before = {"history": turns[:turn]} if turn else {}
            yield {"id": f"{key}-{turn + 1}", "image": images} | before | asked


CORPUS = Corpus(
    name="llava",
    title="LLaVA instructions",
    kind="instructions",
    language="en",
    size="158,000 dialogues of 81,000 images, 20 GB with COCO's",
    licence="CC BY 4.0, and OpenAI's terms of use; photographs under their owners' Flickr terms",
    where="https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K",
    used="3 (optional)",
    splits=SPLITS,
    layout="llava_instruct_150k.json (or its three parts) and COCO's train2017/ or train2014/",
    read=read,
)
