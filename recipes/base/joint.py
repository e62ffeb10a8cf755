"""Joint instructions (paper 3.2.3): images described and asked about twice, speech, videos; the same told in words.

    python recipes/base/joint.py data/base

writes OUT/joint-{train,dev}.jsonl for stage 3: images described, two questions about an image one after the other,
speech to be written down in five wordings, and videos. Spoken questions are in asked-* and whether-* (spoken.py),
speech beside images in heard-* (heard.py); images are those of asked-train, so that their tokens are computed once.

The small LLM is frozen by then, and does what it has been taught before: OUT/told-joint-{train,dev}.jsonl, for stage 0,
have the same instructions where a name stands in an image's place and characters, some of them misheard, in that of
speech. Of sentences beside an image most name what it shows, and some do not: it is to help, and not to be believed.
Run text.py, standins.py, films.py first.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rows import read_rows
from spoken import ASKED, SPEECH, about, half, images
from wordings import ALOUD, DESCRIBED, OPEN, another, finder, whether

from xllm.files import write_jsonl_atomic
from xllm.instructions import INSTRUCTIONS
from xllm.text import normalize

TWICE = 800  # images asked about twice
HEARD = 400  # recordings of each set of speech
VIDEOS = 1000
SENTENCES, EACH = 10_000, 25  # beside an image, in words; of each name at most
RIGHT = 0.6  # share of them that name what it shows
LENGTHS = range(3, 31)  # characters of these
DEV = 100  # one row of so many is dev


def captions(out: Path, split: str) -> dict[str, str]:
    """What people wrote about photographs, by image."""
    return {row["image"]: row["response"] for row in read_rows(out / f"photos-{split}.jsonl") if "accept" not in row}


def two_turns(draw: random.Random, name: str, names: list[str]) -> dict:
    """Two questions about an image that shows `name`, the first one answered."""
    thing = name if draw.random() < 0.5 else another(draw, names, name)
    turns = [(draw.choice(OPEN), name), whether(draw, thing, name)]
    draw.shuffle(turns)
    (first, answer), (second, response) = turns
    return {"instruction": second, "response": response, "history": [{"instruction": first, "response": answer}]}


def shown(out: Path, split: str, seed: int = 0) -> Iterator[dict]:
    """The instructions of a split, with media."""
    rows = half(images(out, split), ASKED[split], random.Random(f"asked {split}"))
    written, names = captions(out, split), sorted({row["response"] for row in rows})
    for row in rows:
        described = written.get(row["image"]) or DESCRIBED.format(row["response"])
        yield {"id": f"{row['id']}-described", **about(row), "response": described}
    chance = random.Random(f"{seed} {split}")
    for row in chance.sample(rows, min(TWICE * ASKED[split] // ASKED["train"], len(rows))):
        yield {"id": f"{row['id']}-twice", **about(row), **two_turns(chance, row["response"], names)}
    for path in (out / f"{name}-{split}.jsonl" for name in SPEECH):
        heard = read_rows(path) if path.exists() else []
        for row in chance.sample(heard, min(HEARD * ASKED[split] // ASKED["train"], len(heard))):
            yield {key: row[key] for key in ("id", "speech", "duration", "response")}  # the wording is to be drawn
    videos = read_rows(out / f"videos-{split}.jsonl")
    yield from chance.sample(videos, min(VIDEOS * ASKED[split] // ASKED["train"], len(videos)))


def in_words(names: dict[str, str], seed: int = 0) -> Iterator[dict]:
    """Instructions about images that show `names`, in words; each with how people describe it."""
    draw, each = random.Random(seed), sorted(names)
    for name, described in names.items():
        told = {"told": {"image": name}}
        yield told | {"instruction": draw.choice(OPEN), "response": name}
        yield told | {"instruction": draw.choice(INSTRUCTIONS["image"]), "response": described}
        yield told | two_turns(draw, name, each)
        thing = name if draw.random() < 0.5 else another(draw, each, name)
        for question, answer in ((draw.choice(OPEN), name), whether(draw, thing, name)):
            heard = {"told": {"image": name, "speech": normalize(question)}}
            yield heard | {"instruction": draw.choice(ALOUD), "response": answer}


def heard_in_words(texts: list[dict], names: list[str], count: int, seed: int = 0) -> Iterator[dict]:
    """Sentences that name something, as speech beside an image of that or of something else, in words."""
    draw, find, counts = random.Random(seed), finder(names), Counter()
    for row in draw.sample(texts, len(texts)):
        said = normalize(row["response"])
        name = find(said) if len(said) in LENGTHS else None
        if name and counts[name] < EACH and counts.total() < count:
            counts[name] += 1
            image = name if draw.random() < RIGHT else another(draw, names, said)
            asked = {"instruction": draw.choice(INSTRUCTIONS["masr"]), "response": row["response"]}
            yield {"told": {"image": image, "speech": said}, **asked}


def known_names(out: Path) -> dict[str, str]:
    """The names of training images, and of stand-ins for some, with a description of each."""
    written = captions(out, "train")
    names: dict[str, str] = {}
    stand_ins = read_rows(out / "standins-train.jsonl")
    for row in (row for part in (*images(out, "train"), stand_ins) for row in part):
        names.setdefault(row["response"], written.get(row["image"]) or DESCRIBED.format(row["response"]))
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    names = known_names(out)
    texts = read_rows(out / "text-first-train.jsonl")
    rows = [*in_words(names), *heard_in_words(texts, sorted(names), SENTENCES)]
    random.Random(0).shuffle(rows)
    rows = [{"id": f"told-joint-{number}", **row} for number, row in enumerate(rows)]
    parts = {f"joint-{split}": list(shown(out, split)) for split in ("train", "dev")}
    parts |= {"told-joint-dev": rows[::DEV], "told-joint-train": [row for i, row in enumerate(rows) if i % DEV]}
    for name, part in parts.items():
        write_jsonl_atomic(out / f"{name}.jsonl", part)
        print(f"{name}: {len(part)} rows")


if __name__ == "__main__":
    main()
