"""Spoken questions about images, and sentences that name what images show, by Kokoro-82M (Apache 2.0).

    python recipes/base/spoken.py ../shared/data data/base --home kokoro --python kokoro-env/bin/python

writes OUT/spoken-jobs.jsonl, speaks it into OUT/spoken/*.wav (some 24 minutes of speech; what exists is kept), and of
what has been spoken writes

    asked-{train,dev,test}      what is it? aloud; in train and dev also in writing
    asked-test-typed            the test's questions in writing
    whether-{train,test}        is this or that there? aloud: as often so as not; whether-test-typed

Images are those of pictures.py; test images are of photographs' test and of the style that is never trained on, half
and half, of things that training images show. Each recording asks about many images. Recordings of tests are in the
two test voices, all others in blends of the other voices (voices.py). Without --home nothing is spoken. heard.py takes
the sentences.
"""

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rows import digest, read_rows
from voices import TEST_VOICES, blend, say, spoken, training_voices, write_jobs
from wordings import ALOUD, OPEN, SAY, WHETHER, another, finder, whether

from xllm.files import write_jsonl_atomic

TAKES = {"test": 1, "train": 2}  # recordings of each open question
WHETHER_NAMES = {"test": 30, "train": 40}  # names asked for aloud, once each
SAID = {"test": 300, "train": 120, "dev": 20}  # sentences that name a thing
ASKED = {"test": 300, "train": 1600, "dev": 160}  # images asked about aloud
SHOWN = {"test": 2, "train": 4}  # images of the thing, and as many of others, for each recording that asks for it
SPEED = (0.85, 1.15)
IMAGES = {"train": ("photos-train", "emoji-train"), "dev": ("photos-dev", "emoji-dev")}
IMAGES |= {"test": ("photos-test", "emoji-test-style")}
SPEECH = ("real_words", "tiny_speech", "voices", "voices-more", "real_sentences", "spliced")


def images(out: Path, split: str) -> list[list[dict]]:
    """Rows that ask what photographs show, and those of emoji; of other splits than train, of things known there."""
    parts = [[row for row in read_rows(out / f"{name}.jsonl") if row.get("accept")] for name in IMAGES[split]]
    if split == "train":
        return parts
    known = {row["response"] for part in images(out, "train") for row in part}
    return [[row for row in part if row["response"] in known] for part in parts]


def speech(out: Path, split: str) -> list[dict]:
    """The rows of all recordings of people and voices that are there."""
    paths = [out / f"{name}-{split}.jsonl" for name in SPEECH]
    return [row for path in paths if path.exists() for row in read_rows(path)]


def half(parts: Sequence[list[dict]], count: int, chance: random.Random) -> list[dict]:
    """`count` rows, of each part as many if it has them."""
    each = [chance.sample(part, min(count // len(parts), len(part))) for part in parts]
    return [row for part in each for row in part]


def job(kind: str, split: str, text: str, take: int, voices: list[str], name: str | None = None) -> dict:
    """What Kokoro is to say, in a voice that is drawn."""
    number = f"{kind}-{split}-{digest(text)}-{take}"
    draw = random.Random(number)
    voice = {sorted(TEST_VOICES)[take % 2]: 1.0} if split == "test" else blend(draw, voices)
    about = {"kind": kind, "split": split, "name": name}
    return {"id": number, "text": text, "voice": voice, "speed": round(draw.uniform(*SPEED), 2), **about}


def jobs(out: Path, voices: list[str], seed: int = 0) -> list[dict]:
    """All jobs, those of tests first."""
    found = []
    shown = {split: images(out, split) for split in IMAGES}
    find = finder(row["response"] for part in shown["train"] for row in part)
    said = Counter(find(row["response"]) for row in speech(out, "train"))
    for split in ("test", "train", "dev"):
        chance = random.Random(f"{seed} {split}")
        photographs, emoji = ([*dict.fromkeys(row["response"] for row in part)] for part in shown[split])
        if split in TAKES:
            for number, text in enumerate(OPEN):
                found += [job("open", split, text, number + take, voices) for take in range(TAKES[split])]
            for take, name in enumerate(chance.sample(photographs, min(WHETHER_NAMES[split], len(photographs)))):
                found.append(job("whether", split, chance.choice(WHETHER).format(name), take, voices, name))
        names = chance.sample(photographs, len(photographs))
        if split == "train":  # things that no recording names
            names = [name for name in names if not said[name]]
        elif len(names) < SAID[split]:
            left = [name for name in emoji if len(name) > 1 and name not in names]
            names += chance.sample(left, min(SAID[split] - len(names), len(left)))
        for take, name in enumerate(names[: SAID[split]]):
            sentence = chance.choice(SAY["test" if split == "test" else "train"]).format(name)
            found.append(job("say", split, sentence, take, voices, name))
    return found


def recordings(out: Path) -> list[dict]:
    """The jobs that have been spoken, with `speech` and `duration`."""
    todo = read_rows(out / "spoken-jobs.jsonl")
    rows = {row["id"]: row for row in spoken(todo, out, "spoken")}
    return [one | {key: rows[one["id"]][key] for key in ("speech", "duration")} for one in todo if one["id"] in rows]


def about(row: dict) -> dict:
    """What a row says of its image."""
    return {key: row[key] for key in ("image", "told") if key in row}


def asked(rows: Sequence[dict], takes: Mapping[str, Sequence[dict]], split: str) -> Iterator[tuple[dict, dict]]:
    """For each image a question, spoken in one of its `takes` (by text), and in writing."""
    for row in rows:
        draw = random.Random(f"asked {row['id']}")
        text = draw.choice(list(takes))
        aloud = ALOUD[0] if split == "test" else draw.choice(ALOUD)
        answer = about(row) | {"response": row["response"], "accept": row["accept"]}
        speech = draw.choice(takes[text])["speech"]
        yield (
            {"id": f"{row['id']}-aloud", **answer, "speech": speech, "instruction": aloud},
            {"id": f"{row['id']}-typed", **answer, "instruction": text},
        )


def asked_whether(said: Sequence[dict], rows: Sequence[dict], split: str) -> Iterator[tuple[dict, dict]]:
    """For each recording that asks whether a thing is there, images where it is and images where it is not."""
    by_name = defaultdict(list)
    for row in rows:
        by_name[row["response"]].append(row)
    names = sorted(by_name)
    for one in said:
        draw, name = random.Random(f"whether {one['id']}"), one["name"]
        there = draw.sample(by_name[name], min(SHOWN[split], len(by_name[name])))
        others = [draw.choice(by_name[another(draw, names, name)]) for _ in there]
        for number, row in enumerate([*there, *others]):
            _, answer = whether(draw, name, row["response"])
            aloud = ALOUD[0] if split == "test" else draw.choice(ALOUD)
            asked = {"id": f"{one['id']}-{number}", **about(row), "response": answer}
            yield (asked | {"speech": one["speech"], "instruction": aloud}, asked | {"instruction": one["text"]})


def manifests(out: Path) -> Iterator[tuple[str, list[dict]]]:
    """Names and rows of the manifests, as far as recordings go."""
    said: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for one in recordings(out):
        said[one["kind"], one["split"]].append(one)
    for split in IMAGES:
        takes = defaultdict(list)
        for one in said["open", "test" if split == "test" else "train"]:
            takes[one["text"]].append(one)
        parts = images(out, split)
        if takes:
            rows = half(parts, ASKED[split], random.Random(f"asked {split}"))
            pairs = list(asked(rows, takes, split))
            yield from _pairs("asked", split, pairs)
        if said["whether", split]:
            yield from _pairs("whether", split, list(asked_whether(said["whether", split], parts[0], split)))


def _pairs(name: str, split: str, pairs: list[tuple[dict, dict]]) -> Iterator[tuple[str, list[dict]]]:
    """Tests apart, spoken and in writing; all else together, `whether` only aloud."""
    aloud, typed = ([pair[number] for pair in pairs] for number in range(2))
    if split == "test":
        yield f"{name}-test", aloud
        yield f"{name}-test-typed", typed
    else:
        yield f"{name}-{split}", aloud + (typed if name == "asked" else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets, with voices/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--home", type=Path, help="Kokoro's folder: speak")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has what Kokoro needs")
    parser.add_argument("--shard", default="0/1", help="k/n: speak every n-th job from the k-th on")
    args = parser.parse_args()
    path = args.out / "spoken-jobs.jsonl"
    todo = jobs(args.out, training_voices(read_rows(args.data / "voices/manifest.jsonl")))
    write_jobs(path, todo)
    kinds = Counter(f"{one['kind']}-{one['split']}" for one in todo)
    print(f"{len(todo)} jobs, {sum(len(one['text']) for one in todo)} characters: {dict(kinds)}", flush=True)
    if args.home:
        say(args.data, path, args.out / "spoken", args.home, args.python, args.shard)
    done = recordings(args.out)
    print(f"{len(done)} spoken, {sum(one['duration'] for one in done) / 60:.1f} minutes")
    for name, rows in manifests(args.out):
        write_jsonl_atomic(args.out / f"{name}.jsonl", rows)
        print(f"{name}: {len(rows)} rows, {len({row['image'] for row in rows})} images")


if __name__ == "__main__":
    main()
