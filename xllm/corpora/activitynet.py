"""ActivityNet Captions (Krishna et al. 2017): what happens in a film of two minutes, sentence by sentence."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.json_files import pairs
from xllm.corpora.raw import Raw, near
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {split: f"{split}.json" for split in ("train", "val_1", "val_2")}
FOLDERS = ("videos", "v1-2/train", "v1-2/val", "v1-3/train_val", "train", "val")
SUFFIXES = (".mp4", ".mkv", ".webm")


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """A film and all its sentences as one text, since a film is seen as a few frames of the whole."""
    name = raw.one(SPLITS[split])
    for video, about in pairs(raw, name):
        yield {
            "id": f"activitynet-{split}-{video}",  # both val_1 and val_2 describe the same films
            "video": near(name, *(f"{folder}/{video}{suffix}" for folder in FOLDERS for suffix in SUFFIXES)),
            "response": " ".join(sentence.strip() for sentence in about["sentences"]),
        }


CORPUS = Corpus(
    name="activitynet",
    title="ActivityNet Captions",
    kind="video",
    language="en",
    size="100,000 sentences of 20,000 films, 849 hours, 300 GB",
    licence="none stated; films under their owners' YouTube terms",
    where="https://cs.stanford.edu/people/ranjaykrishna/densevid/",
    used="3",
    splits=SPLITS,
    layout="train.json, val_1.json, val_2.json, and the films, v_….mp4, .mkv or .webm, in videos/",
    read=read,
)
