"""MSR-VTT (Xu et al. 2016): twenty English sentences for each of ten thousand clips."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.json_files import items
from xllm.corpora.raw import Raw, near
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {
    "train": "train_val_videodatainfo.json",
    "validate": "train_val_videodatainfo.json",
    "test": "test_videodatainfo.json",
}
FOLDERS = ("TrainValVideo", "TestVideo", "videos/all", "videos", "all")


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Sentences in the file's order, of the clips whose split it is."""
    name = raw.one(SPLITS[split])
    split_of = {clip["video_id"]: clip["split"] for clip in items(raw, name, "videos.item")}
    for sentence in items(raw, name, "sentences.item"):
        clip = sentence["video_id"]
        key = f"msr-vtt-{clip}-{sentence['sen_id']}"
        if clip not in split_of:
            yield Dropped(key, "no such clip")
        elif split_of[clip] == split:
            yield {
                "id": key,
                "video": near(name, *(f"{folder}/{clip}.mp4" for folder in FOLDERS)),
                "response": sentence["caption"],
            }


CORPUS = Corpus(
    name="msr-vtt",
    title="MSR-VTT",
    kind="video",
    language="en",
    size="200,000 captions of 10,000 clips, 41 hours, 7 GB",
    licence="research only (Microsoft); clips under their owners' YouTube terms",
    where="https://www.microsoft.com/en-us/research/publication/msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language/",
    used="2 video",
    splits=SPLITS,
    layout="train_val_videodatainfo.json, test_videodatainfo.json and TrainValVideo/, TestVideo/",
    read=read,
)
