"""AISHELL-1 (Bu et al. 2017): read Mandarin speech. One transcript for all splits; a wav's folder is its split."""

from collections.abc import Iterator
from contextlib import suppress

from xllm.corpora.corpus import Corpus
from xllm.corpora.raw import Raw, Unusable
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

TRANSCRIPT = "transcript/aishell_transcript_v0.8.txt"
SPLITS = dict.fromkeys(("train", "dev", "test"), TRANSCRIPT)


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Lines `ID 词 词 …`, of the utterances in `wav/<split>/<speaker>/`; those with no wav at all count as train."""
    transcript = raw.one(TRANSCRIPT)
    base = transcript.removesuffix(TRANSCRIPT)
    for line in raw.lines(transcript):
        name, _, words = line.partition(" ")
        if not name:
            continue
        wavs = {s: f"{base}wav/{s}/{name[6:11]}/{name}.wav" for s in SPLITS}  # BAC009 S0002 W0122
        if _split(raw, wavs) == split:
            yield {"id": name, "speech": wavs[split], "response": "".join(words.split())}


def _split(raw: Raw, wavs: dict[str, str]) -> str:
    for split, wav in wavs.items():
        with suppress(Unusable):
            raw.media(wav)
            return split
    return "train"


CORPUS = Corpus(
    name="aishell-1",
    title="AISHELL-1",
    kind="speech",
    language="zh",
    size="178 hours, 141,600 utterances, 15 GB",
    licence="Apache 2.0",
    where="https://www.openslr.org/33/",
    used="1",
    splits=SPLITS,
    layout="data_aishell.tgz, or data_aishell/ with wav/ (its archives may stay packed) and transcript/",
    read=read,
)
