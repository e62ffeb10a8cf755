"""AISHELL-2 (Du et al. 2018): a thousand hours of read Mandarin; dev and test recorded by three kinds of devices."""

from collections.abc import Iterator

from xllm.corpora.corpus import Corpus
from xllm.corpora.raw import Raw
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

SPLITS = {"train": "iOS/data/trans.txt"} | {
    f"{part}-{channel.lower()}": f"AISHELL-DEV-TEST-SET/{channel}/{part}/trans.txt"
    for part in ("dev", "test")
    for channel in ("iOS", "Android", "Mic")
}


def read(raw: Raw, split: str) -> Iterator[Row | Dropped]:
    """Lines `ID<TAB>words`; `wav.scp` beside them says which file is whose."""
    transcript = raw.one(SPLITS[split])
    folder = transcript.removesuffix("trans.txt")
    wav_of = raw.lookup(f"{folder}wav.scp", lambda: _pairs(raw, f"{folder}wav.scp"))
    for name, words in _pairs(raw, transcript):
        wav = wav_of(name)
        if wav is None:
            yield Dropped(name, "not in wav.scp")
        else:
            yield {"id": name, "speech": folder + wav, "response": words.strip()}


def _pairs(raw: Raw, name: str) -> Iterator[tuple[str, str]]:
    for line in raw.lines(name):
        key, _, value = line.partition("\t")
        if key:
            yield key, value


CORPUS = Corpus(
    name="aishell-2",
    title="AISHELL-2",
    kind="speech",
    language="zh",
    size="1,000 hours, 1,009,000 utterances, 120 GB",
    licence="research only, by request",
    where="https://www.aishelltech.com/aishell_2",
    used="1, 2 speech, 3",
    splits=SPLITS,
    layout="iOS/data/ and AISHELL-DEV-TEST-SET/, each with wav.scp, trans.txt and wav/",
    read=read,
)
