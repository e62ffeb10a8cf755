"""Pictures with Chinese names for `tiny`: emoji in many styles, icons, and Tux Paint's stamps.

A tenth of the things and the whole of one style are kept for two tests: of things never seen, and of known things
drawn by another hand. Icons and stamps only train, as their names are looser.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from xllm.corpora import tiny_stamps
from xllm.corpora.tiny_drawings import SIDE, draw, drawings, glyphs, member, pictures, plain
from xllm.corpora.tiny_instructions import ASK
from xllm.errors import XLLMError
from xllm.files import write_atomic, write_jsonl_atomic
from xllm.pictures import open_picture, over_white
from xllm.text import normalize, reading
from xllm.vision.naming import NAMES

# Unicode's emoji subgroups by what a child would call them; the others have no kind.
KINDS = {
    "animal-": "动物",
    "plant-": "植物",
    "food-fruit": "水果",
    "food-vegetable": "蔬菜",
    "food-": "食物",
    "drink": "饮料",
    "place-building": "建筑",
    "transport-ground": "车",
    "transport-water": "船",
    "sport": "运动",
    "clothing": "衣物",
    "musical-instrument": "乐器",
    "tool": "工具",
}
GROUPS = (0, 3, 4, 5, 6, 7)  # faces, nature, food, travel, activities, objects; no people, signs and flags
NAME_LENGTHS = range(1, 7)
STYLES = (  # of training
    *("noto", "fluent-emoji-flat", "twemoji", "fluent-emoji", "fluent-emoji-high-contrast", "noto-v1"),
    *("emojione", "emojione-v1", "emojione-monotone", "fxemoji"),
)
TEST_STYLE = "openmoji"
ICONS = (  # iconify packages that draw some of the things, under English names
    *("streamline-emojis", "game-icons", "icon-park", "hugeicons", "ph", "tabler", "lucide", "fa6-solid"),
    *("streamline-color", "streamline-plump-color", "streamline-kameleon-color"),
)
SOLID, LINES = "lobehub-fluent-emoji-3d", "fontsource-noto-emoji"  # rendered bodies; a font of outlines
STAMPS = "stamps"
HELD_OUT = 0.1  # share of the things that are never trained on
DEV = 0.05  # share of the other pictures
SPLITS = ("train", "dev", "test-style", "test-concepts")
Progress = Callable[[str, int, int], None]


class Concept(NamedTuple):
    """A thing with a name, its kind if it has one, and its code point sequence (`1F43C`)."""

    name: str
    kind: str | None
    code: str


def _nameable(name: str, known: set[str]) -> bool:
    return len(name) in NAME_LENGTHS and known.issuperset(name) and reading(name) is not None


def concepts(folder: Path, known: set[str]) -> list[Concept]:
    """Emoji whose Chinese name consists of `known` characters and can be read aloud, each name once.

    `folder` holds the npm package emojibase-data (MIT). Raises XLLMError when it does not.
    """
    rows = member(folder, "emojibase-data", "zh/data.json")
    subgroups = member(folder, "emojibase-data", "meta/groups.json")["subgroups"]
    found: dict[str, Concept] = {}
    for row in rows:
        name = normalize(row["label"])
        if row.get("group") in GROUPS and _nameable(name, known):
            subgroup = subgroups[str(row["subgroup"])]
            kind = next((kind for prefix, kind in KINDS.items() if subgroup.startswith(prefix)), None)
            found.setdefault(name, Concept(name, kind, row["hexcode"]))
    return list(found.values())


def split(names: Mapping[str, Iterable[str]], seed: int) -> dict[str, list[tuple[str, str]]]:
    """Names by style -> (style, name) of each of SPLITS; a thing of `dev` is in `train` too, in another style."""
    chance = random.Random(seed)
    pictures = [(style, name) for style in STYLES for name in names[style]]
    taught = list(dict.fromkeys(name for _, name in pictures))
    held = set(chance.sample(taught, round(len(taught) * HELD_OUT)))
    learnt = [picture for picture in pictures if picture[1] not in held]
    left = Counter(name for _, name in learnt)
    dev: set[tuple[str, str]] = set()
    for picture in chance.sample(learnt, len(learnt)):
        if len(dev) < round(len(learnt) * DEV) and left[picture[1]] > 1:
            dev.add(picture)
            left[picture[1]] -= 1
    return {
        "train": [picture for picture in learnt if picture not in dev],
        "dev": [picture for picture in learnt if picture in dev],
        "test-style": [(TEST_STYLE, name) for name in names[TEST_STYLE] if name in left],
        "test-concepts": [picture for picture in pictures if picture[1] in held],
    }


def picture(source: str | bytes | Path | Image.Image) -> Image.Image:
    """An SVG, a picture, or a file of either, fit into SIDE x SIDE pixels of white."""
    if isinstance(source, Image.Image):
        image = source
    elif isinstance(source, str) or (isinstance(source, Path) and source.suffix == ".svg"):
        image = draw(source)
    else:
        with open_picture(BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image = over_white(opened)
    return ImageOps.pad(image, (SIDE, SIDE), color="white")


def licences(folder: Path, stamps: Path | None) -> str:
    """Who made the pictures and on which terms, as a page in Markdown."""
    lines = [
        f"Drawn {SIDE} x {SIDE} pixels large on white, else unchanged. The films beside are made of the pictures in",
        f"{', '.join(STYLES)}.\n\n| folder | package | by | licence |\n|---|---|---|---|",
    ]
    for style in (*STYLES, TEST_STYLE, *ICONS):
        package = f"iconify-json-{style}"
        about, version = member(folder, package, "info.json"), member(folder, package, "package.json")["version"]
        by, terms = about["author"], about["license"]
        made = " | ".join(f"{at.get('title', at.get('name'))}, {at.get('url', '')}" for at in (by, terms))
        lines.append(f"| {style} | npm @iconify-json/{style} {version} | {made} |")
    for package, npm, by in (
        (SOLID, "@lobehub/fluent-emoji-3d", "Microsoft"),
        (LINES, "@fontsource/noto-emoji", "Google"),
    ):
        about = member(folder, package, "package.json")
        lines.append(f"| {package} | npm {npm} {about['version']} | {by} | {about['license']} |")
    names = member(folder, "emojibase-data", "package.json")
    lines.append(f"| names | npm emojibase-data {names['version']} | {names['author']} | {names['license']} |")
    if stamps is not None:
        package = f"Debian tuxpaint-stamps-default {tiny_stamps.version(stamps)}"
        lines.append(f"| {STAMPS} | {package} | Bill Kendrick and contributors | GPL 2 |")
    return "\n".join(lines) + "\n"


def prepare(
    folder: Path,
    target: Path,
    known: set[str],
    stamps: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write `pictures/`, one manifest per split and the names that train into `target`; returns counts.

    `folder` holds the npm packages, `stamps` the unpacked Tux Paint stamps; names consist of `known` characters.
    Raises XLLMError when a package or the SVG renderer is missing.
    """
    codes = {concept.name: plain(concept.code) for concept in concepts(folder, known)}
    drawn = {style: drawings(folder, style) for style in (*STYLES, TEST_STYLE)}
    parts = split({style: [n for n, code in codes.items() if code in drawn[style]] for style in drawn}, seed)
    sources = {
        part: [(f"{style}/{codes[name]}", name, drawn[style][codes[name]]) for style, name in pictures]
        for part, pictures in parts.items()
    }
    held = {name for _, name in parts["test-concepts"]}
    taught = {name: code for name, code in codes.items() if name in {name for _, name in parts["train"]}}
    more = {style: drawings(folder, style) for style in ICONS}
    more |= {SOLID: pictures(folder, SOLID), LINES: glyphs(folder, LINES)}
    for style, known_as in more.items():
        sources["train"] += [(f"{style}/{code}", n, known_as[code]) for n, code in taught.items() if code in known_as]
    counts = {}
    if stamps is not None:
        found = list(tiny_stamps.stamps(stamps, lambda name: _nameable(name, known)))
        if not found:
            raise XLLMError(f"{stamps}: no stamps there; unpack tuxpaint-stamps-default (docs/tiny.md)")
        used = [(f"{STAMPS}/{place}", name, path) for place, name, path in found if name and name not in held]
        sources["train"] += used
        counts = {"stamps": len(used), "stamps left out": len(found) - len(used)}
    done, total = 0, sum(map(len, sources.values()))
    for part in SPLITS:
        rows = []
        for place, name, source in sources[part]:
            path = target / "pictures" / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(source).save(path)
            wordings = ASK["image"] if part == "train" else ASK["image"][:1]
            instruction = random.Random(f"{seed} {place}").choice(wordings)
            image = f"pictures/{place}.png"
            told = {"image": name}
            rows.append({"id": place, "image": image, "response": name, "instruction": instruction, "told": told})
            done += 1
            if progress:
                progress("pictures", done, total)
        write_jsonl_atomic(target / f"pictures-{part}.jsonl", rows)
        if part == "train":
            names = dict.fromkeys(row["response"] for row in rows)
            write_atomic(target / "tokenizer" / NAMES, "\n".join(names) + "\n")
        counts[f"pictures-{part}"] = len(rows)
    write_atomic(target / "pictures" / "LICENSES.md", licences(folder, stamps))
    return counts
