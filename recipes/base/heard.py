"""Speech in noise that names what an image beside it shows (masr).

    python recipes/base/heard.py data/base

reads what spoken.py has spoken, and the recordings of people and voices that name something which an image of the
split shows; writes

    heard-train       noise of -5 to 10 dB; with the right image twice, and a wrong one
    heard-alone-train one of the noises of each recording, without an image
    heard-dev, -test  noise as loud as the speech (0 dB), and the right image; the test's by the two test voices
    heard-test-real   the same of the test recordings of people

with OUT/heard/*.flac, so that a measurement can be had again. Noise is of the recording's own spectrum; in half of
train also of other colours (xllm/distortion.py). What exists is kept. Run speech.py, spliced.py, spoken.py first.
"""

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile
import torch
from rows import digest
from spoken import about, images, recordings, speech
from torch import Tensor
from wordings import another, finder

from xllm.distortion import add, noise
from xllm.features import seeded
from xllm.files import write_jsonl_atomic
from xllm.media import SAMPLE_RATE, load_audio
from xllm.text import normalize

SNR = (-5.0, 10.0)  # dB, in training
COPIES = 2  # noises of each training recording
MOST, VIEWS = 8, 4  # training recordings of one name, and images
PEAK = 0.95


def naming(rows: Sequence[dict], names: set[str], most: int | None = None) -> list[dict]:
    """The recordings that name one of `names`, with `name`; of each at most so many, drawn by their ids."""
    find, counts, found = finder(names), Counter(), []
    for row in sorted(rows, key=lambda row: digest(row["id"])):
        name = find(row["response"])
        if name and (most is None or counts[name] < most):
            counts[name] += 1
            found.append(row | {"name": name})
    return found


def by_name(out: Path, split: str) -> dict[str, list[dict]]:
    """Rows of images by what they show; in training few of each, since the tokens of all are to be computed."""
    found = defaultdict(list)
    for row in (row for part in images(out, split) for row in part):
        found[row["response"]].append(row)
    if split == "train":
        found = {name: random.Random(name).sample(rows, min(VIEWS, len(rows))) for name, rows in found.items()}
    return found


def own_noise(wave: Tensor, generator: torch.Generator) -> Tensor:
    """Noise [S] of the spectrum of the wave [S]: its own, with the phases drawn anew."""
    spectrum = torch.fft.rfft(wave)
    phases = 2 * torch.pi * torch.rand(len(spectrum), generator=generator)
    return torch.fft.irfft(torch.polar(spectrum.abs(), phases), n=len(wave))


def noisy(wave: Tensor, split: str, generator: torch.Generator) -> Tensor:
    """The wave in noise: of tests 0 dB of its own spectrum."""
    kind, level = torch.rand(2, generator=generator).tolist()
    if split == "train" and kind < 0.5:
        other = noise(len(wave), generator)
    else:
        other = own_noise(wave, generator)
    mixed = add(wave, other, SNR[0] + (SNR[1] - SNR[0]) * level if split == "train" else 0.0)
    return mixed * (PEAK / mixed.abs().max()).clamp(max=1.0)


def write(out: Path, row: dict, split: str, copy: int) -> dict:
    """What is heard of a recording in one noise, written unless it is there."""
    name = f"heard/{split}-{row['id']}-{copy}"
    path = out / f"{name}.flac"
    if not path.exists():
        generator = seeded(int(digest(row["id"]), 16), copy)
        mixed = noisy(load_audio(out / row["speech"]), split, generator)
        soundfile.write(path.with_suffix(".tmp"), mixed.numpy(), SAMPLE_RATE, format="FLAC")
        path.with_suffix(".tmp").rename(path)
    return {"id": name, "speech": f"{name}.flac", "duration": row["duration"], "response": row["response"]}


def beside(heard: dict, name: str, others: list[str], shown: dict[str, list[dict]], split: str) -> Iterator[dict]:
    """Rows of one noisy recording: with an image of what it names; in training with two, and with another's."""
    draw = random.Random(heard["id"])
    if split != "train":
        yield heard | about(draw.choice(shown[name]))
        return
    right = draw.sample(shown[name], min(2, len(shown[name])))
    said = normalize(heard["response"])
    wrong = draw.choice(shown[another(draw, others, said)])
    for number, row in enumerate([*right, wrong]):
        yield heard | {"id": f"{heard['id']}-{number}"} | about(row)


def manifest(out: Path, split: str, rows: Sequence[dict], shown: dict[str, list[dict]]) -> list[dict]:
    """The rows of a split from recordings that name something."""
    found, named = [], sorted({row["name"] for row in rows})
    for row in rows:
        for copy in range(COPIES if split == "train" else 1):
            found += beside(write(out, row, split, copy), row["name"], named, shown, split)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    (out / "heard").mkdir(parents=True, exist_ok=True)
    sentences = defaultdict(list)
    for one in recordings(out):
        if one["kind"] == "say":
            sentences[one["split"]].append(one | {"response": one["text"]})
    for split in ("train", "dev", "test"):
        shown, most = by_name(out, split), MOST if split == "train" else None
        people = naming(speech(out, split), set(shown), most)
        parts = {"": sentences[split] + people} if split != "test" else {"": sentences[split], "-real": people}
        for kind, rows in parts.items():
            found = manifest(out, split, rows, shown)
            if not found:
                print(f"heard-{split}{kind}: not written, since nothing of it has been spoken")
                continue
            write_jsonl_atomic(out / f"heard-{split}{kind}.jsonl", found)
            if split == "train":
                write_jsonl_atomic(out / "heard-alone-train.jsonl", [write(out, row, split, 0) for row in rows])
            minutes = sum(row["duration"] for row in rows) / 60
            names = len({row["name"] for row in rows})
            print(f"heard-{split}{kind}: {len(found)} rows, {len(rows)} recordings ({minutes:.1f} min), {names} names")


if __name__ == "__main__":
    main()
