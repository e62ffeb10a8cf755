"""Manifests of images with Chinese names for `base`: photographs, and emoji, icons and stamps.

    mkdir packages && cd packages                          # 71 MB of emoji and icons, 161 MB of stamps
    npm pack emojibase-data@17.0.0 @iconify-json/{noto@1.2.9,noto-v1@1.2.5,fxemoji@1.2.2,twemoji@1.2.5,openmoji@1.2.29}
    npm pack @iconify-json/fluent-emoji{@1.2.7,-flat@1.2.6,-high-contrast@1.2.6} @iconify-json/emojione{,-v1}@1.2.3
    npm pack @iconify-json/emojione-monotone@1.2.1 @lobehub/fluent-emoji-3d@1.1.0 @fontsource/noto-emoji@5.3.2
    npm pack @iconify-json/{streamline-{emojis,color,plump-color,kameleon-color},game-icons,icon-park,hugeicons,ph}
    npm pack @iconify-json/{tabler,lucide,fa6-solid}
    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb tux && cd ..
    python recipes/base/pictures.py ../shared/data data/base --packages packages \\
      --stamps packages/tux/usr/share/tuxpaint/stamps --units data/base/tokenizer/units.txt

writes OUT/photos-{train,dev,test}.jsonl of data/photos, which are read in their tars. With --packages also
OUT/emoji-{train,dev}.jsonl and OUT/emoji-test-style.jsonl, openmoji, which is in no other, with what is drawn beside in
OUT/emoji/. Names of emoji are of the ideographs of --units (a tokenizer's units.txt), or else of GB 2312; things whose
names are not are left out.

A photograph in `train` has two rows: its name, asked for in one of several ways, and its caption. Rows of `dev` and
tests ask for the name in the first way; `accept` are all names that are right.
"""

import argparse
import json
import random
import tarfile
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from xllm.corpora import tiny_pictures, tiny_stamps
from xllm.corpora.tiny_drawings import draw, drawings, glyphs, pictures, plain
from xllm.corpora.tiny_instructions import ASK
from xllm.files import write_jsonl_atomic
from xllm.members import reference
from xllm.pictures import open_picture, over_white
from xllm.text import normalize, reading

SIDE = 256  # pixels, of what is drawn
NAME_LENGTHS = range(1, 9)
DEV = 0.05  # share of the emoji
SPLITS = ("train", "dev", "test")


def members(tar: Path) -> dict[str, str]:
    """How a manifest names each file in a tar."""
    with tarfile.open(tar) as archive:
        return {file.name: reference(str(tar.resolve()), file.offset_data, file.size) for file in archive}


def row(name: str, image: str, label: str, accept: list[str], varied: bool) -> dict:
    """A row that asks what an image shows; the wording is drawn by its name if `varied`."""
    wordings = ASK["image"] if varied else ASK["image"][:1]
    asked = random.Random(name).choice(wordings)
    told = {"image": label}
    return {"id": name, "image": image, "response": label, "instruction": asked, "told": told, "accept": accept}


def photos(folder: Path) -> Iterator[tuple[str, dict]]:
    """Split and row for each photograph, and for each caption of those that train."""
    places: dict[str, dict[str, str]] = {}
    for line in (folder / "manifest.jsonl").open(encoding="utf-8"):
        photo = json.loads(line)
        tar, split = photo["tar"], photo["split"]
        if tar not in places:
            places[tar] = members(folder / tar)
        image = places[tar][photo["file"]]
        yield split, row(photo["id"], image, photo["label"], photo["accept"], split == "train")
        if split == "train":
            yield split, {"id": f"{photo['id']}-caption", "image": image, "response": photo["caption"]}


def gb2312() -> set[str]:
    """Its 6,763 ideographs."""
    return {bytes([high, low]).decode("gb2312", "ignore") for high in range(0xB0, 0xF8) for low in range(0xA1, 0xFF)}


def emoji(packages: Path, stamps: Path | None, known: set[str]) -> dict[str, list[tuple[str, str, object]]]:
    """(place, name, what it is drawn from) of each picture, by split: `train`, `dev` and `test-style`."""
    codes = {concept.name: plain(concept.code) for concept in tiny_pictures.concepts(packages, known)}

    def named(style: str, by_code: dict) -> list[tuple[str, str, object]]:
        return [(f"{style}/{code}", name, by_code[code]) for name, code in codes.items() if code in by_code]

    shown = [one for style in tiny_pictures.STYLES for one in named(style, drawings(packages, style))]
    train, dev = hold_out(shown, round(len(shown) * DEV), random.Random(0))
    taught = {name for _, name, _ in train}
    test = named(tiny_pictures.TEST_STYLE, drawings(packages, tiny_pictures.TEST_STYLE))
    solid, lines = tiny_pictures.SOLID, tiny_pictures.LINES
    more = {style: drawings(packages, style) for style in tiny_pictures.ICONS}
    more |= {solid: pictures(packages, solid), lines: glyphs(packages, lines)}
    train += [one for style, by_code in more.items() for one in named(style, by_code) if one[1] in taught]
    if stamps is not None:
        found = list(tiny_stamps.stamps(stamps, lambda name: sayable(name, known)))
        named_stamps = [(f"{tiny_pictures.STAMPS}/{place}", name, path) for place, name, path in found if name]
        print(f"{stamps}: {len(named_stamps)} of {len(found)} stamps have names of known characters")
        train += named_stamps
    return {"train": train, "dev": dev, "test-style": [one for one in test if one[1] in taught]}


def hold_out(shown: list, count: int, chance: random.Random) -> tuple[list, list]:
    """What is left of pictures (place, name, ...) and `count` held out of them, so that each name is left."""
    left, held = Counter(one[1] for one in shown), []
    for one in chance.sample(shown, len(shown)):
        if len(held) < count and left[one[1]] > 1:
            held.append(one)
            left[one[1]] -= 1
    places = {one[0] for one in held}
    return [one for one in shown if one[0] not in places], held


def sayable(name: str, known: set[str]) -> bool:
    """Whether a name is short, of known ideographs, and can be read aloud."""
    return len(name) in NAME_LENGTHS and known.issuperset(name) and reading(name) is not None


def drawn(source: str | bytes | Path | Image.Image) -> Image.Image:
    """An SVG, a picture, or a file of either, fit into SIDE x SIDE pixels of white."""
    if isinstance(source, Image.Image):
        image = source
    elif isinstance(source, str) or (isinstance(source, Path) and source.suffix == ".svg"):
        image = draw(source, SIDE)
    else:
        with open_picture(BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image = over_white(opened)
    return ImageOps.pad(image, (SIDE, SIDE), color="white")


def emoji_rows(part: str, sources: list[tuple[str, str, object]], out: Path) -> Iterator[dict]:
    """A row for each picture of a split, drawn if it is not there yet."""
    for place, name, source in sources:
        image = f"emoji/{place}.png"
        if not (out / image).exists():
            (out / image).parent.mkdir(parents=True, exist_ok=True)
            drawn(source).save(out / image)
        yield row(place, image, name, [name], part == "train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with photos/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, help="folder with npm's packages of emoji and icons")
    parser.add_argument("--stamps", type=Path, help="Tux Paint's stamps, unpacked")
    parser.add_argument("--units", type=Path, help="characters that names may have, one a line")
    given = parser.parse_args()
    known = set(given.units.read_text(encoding="utf-8").split()) if given.units else gb2312()
    rows: dict[str, list[dict]] = {f"photos-{split}": [] for split in SPLITS}
    unsayable: Counter[str] = Counter()
    for split, one in photos(given.data / "photos"):
        if "accept" in one and not known.issuperset(normalize(one["response"])):
            unsayable[one["response"]] += 1
        rows[f"photos-{split}"].append(one)
    if unsayable:
        print(f"photos whose names have other characters, kept all the same: {', '.join(sorted(unsayable))}")
    if given.packages is not None:
        for part, sources in emoji(given.packages, given.stamps, known).items():
            rows[f"emoji-{part}"] = list(emoji_rows(part, sources, given.out))
    for name, found in rows.items():
        write_jsonl_atomic(given.out / f"{name}.jsonl", found)
        print(f"{name}: {len(found)} rows, {len({one['image'] for one in found})} images")


if __name__ == "__main__":
    main()
