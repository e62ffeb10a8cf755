"""Pictures: names are sayable, every style is drawn on white, and the tests' things and style stay out of training."""

import gzip
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageFont

from xllm.corpora import tiny_pictures, tiny_stamps
from xllm.corpora.tiny_drawings import drawings, glyphs
from xllm.errors import XLLMError
from xllm.manifest import iterate_manifest

ANIMALS = "猫狗马牛羊鸡鸭鹅鱼虾蛇鼠虎兔龙猴猪熊狼鹿"
KNOWN = {*ANIMALS, *"心红一个瓢虫蜘蛛"}
GROUPS = {"subgroups": {"0": "animal-mammal", "1": "emotion"}}


def pack(folder, name, files=(), version="1.0.0", **members):
    """A package as `npm pack` makes it; the members are JSON files, `files` others."""
    with tarfile.open(folder / f"{name}-{version}.tgz", "w:gz") as tar:
        documents = {f"{member}.json": json.dumps(content).encode() for member, content in members.items()}
        for member, data in (documents | dict(files)).items():
            info = tarfile.TarInfo(f"package/{member}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def pack_style(folder, style, codes, **icon):
    about = {"author": {"name": "Ann", "url": "a.org"}, "license": {"title": "MIT", "url": "m.org"}}
    body = f'<circle cx="8" cy="10" r="{4 + len(style) % 3}" fill="#c03"/>'
    icons = {code: {"body": body, **icon} for code in codes}
    names = {code: code for code in codes}
    pack(
        folder,
        f"iconify-json-{style}",
        **{"icons": {"width": 16, "height": 20, "icons": icons}, "chars": names, "info": about},
        package={"version": "1.0.0"},
    )


@pytest.fixture
def packages(tmp_path):
    """Twenty animals in two styles of training and that of the test, and a red heart in one."""
    labels = [{"label": name, "hexcode": f"1F4{i:02X}", "group": 3, "subgroup": 0} for i, name in enumerate(ANIMALS)]
    labels += [
        {"label": "红心", "hexcode": "2764-FE0F", "group": 0, "subgroup": 1},
        {"label": "红 心", "hexcode": "2765", "group": 0, "subgroup": 1},  # the same name again
        {"label": "大象", "hexcode": "1F418", "group": 3, "subgroup": 0},  # characters that nobody knows
        {"label": "红", "hexcode": "1F534", "group": 8, "subgroup": 1},  # a sign
    ]
    folder = tmp_path / "packages"
    folder.mkdir()
    about = {"version": "1.0.0", "author": "Miles", "license": "MIT"}
    pack(folder, "emojibase-data", **{"zh/data": labels, "meta/groups": GROUPS, "package": about})
    codes = [row["hexcode"].lower() for row in labels[: len(ANIMALS)]]
    pack_style(folder, "noto", [*codes, "2764"])
    pack_style(folder, "fluent-emoji-flat", codes)
    pack_style(folder, "twemoji", codes[:3], height=10)
    pack_style(folder, "openmoji", codes)
    for style in (*tiny_pictures.STYLES[3:], *tiny_pictures.ICONS):
        pack_style(folder, style, codes if style == "ph" else ["unnamed"])
    about = {"version": "1.0.0", "license": "MIT"}
    webp = io.BytesIO()
    Image.new("RGBA", (40, 20), (204, 0, 51, 255)).save(webp, "webp", lossless=True)
    pack(folder, tiny_pictures.SOLID, {f"assets/{code}.webp": webp.getvalue() for code in codes}, package=about)
    font = {"files/noto-emoji-emoji-400-normal.woff": ImageFont.load_default(20).font_bytes}
    pack(folder, tiny_pictures.LINES, font, package=about, unicode={"[0]": "U+20,U+41-42", "[1]": "U+31"})
    return folder


@pytest.fixture
def stamps(tmp_path):
    """Six stamps, as the Debian package unpacks."""
    folder = tmp_path / "tux/usr/share/tuxpaint/stamps/animals"
    folder.mkdir(parents=True)
    for name, line in {
        "ladybug": "zh_CN.utf8=一个瓢虫。",
        "spider": "af=spinnekop\nzh_CN.utf8=蜘蛛！",
        "cat": "zh_CN.utf8=猫。",
        "ghost": "zh_CN.utf8=红心。",
        "lost": "zh_TW.utf8=瓢蟲。",
    }.items():
        (folder / f"{name}.txt").write_text(f"A {name}.\n{line}\n", encoding="utf-8")
        Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(folder / f"{name}.png")
    (folder / "sound.txt").write_text("zh_CN.utf8=狗。")  # nothing to see
    Image.new("RGBA", (40, 20), (0, 0, 255, 255)).save(folder / "ladybug.png")
    (folder / "spider.png").unlink()
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="10pt" height="20pt"><rect width="10" height="20"/></svg>'
    (folder / "spider.svg").write_text(svg)
    log = tmp_path / "tux/usr/share/doc/changelog.Debian.gz"
    log.parent.mkdir()
    log.write_bytes(gzip.compress(b"tuxpaint-stamps (2022.06.04-1) unstable; urgency=medium\n"))
    return tmp_path / "tux"


def read(target: Path) -> dict[str, list[dict]]:
    return {part: list(iterate_manifest(target / f"pictures-{part}.jsonl")) for part in tiny_pictures.SPLITS}


def test_concepts_have_one_sayable_name_each(packages):
    found = tiny_pictures.concepts(packages, KNOWN)
    assert [concept.name for concept in found] == [*ANIMALS, "红心"]
    assert found[0] == ("猫", "动物", "1F400") and found[-1] == ("红心", None, "2764-FE0F")
    assert len(tiny_pictures.concepts(packages, {"猫"})) == 1


def test_a_style_without_code_points_is_known_by_its_names(tmp_path):
    about = {"info": {}, "package": {}}
    icons = {name: {"body": f"<g id='{name}'/>"} for name in ("redheart", "cat")}
    pack(tmp_path, "iconify-json-fxemoji", icons={"icons": icons}, chars={}, **about)
    chars = {"2764-fe0f": "red-heart", "1f42f": "tiger"}
    pack(tmp_path, "iconify-json-noto", icons={"icons": {}}, chars=chars, **about)
    found = drawings(tmp_path, "fxemoji")
    assert found.keys() == {"2764"} and "redheart" in found["2764"]


def test_an_icon_may_be_numbered(tmp_path):
    about = {"info": {}, "package": {}}
    icons = {name: {"body": f"<g id='{name}'/>"} for name in ("cat-1", "cat-2", "tiger")}
    pack(tmp_path, "iconify-json-ph", icons={"icons": icons}, chars={}, **about)
    pack(tmp_path, "iconify-json-noto", icons={"icons": {}}, chars={"1f408": "cat", "1f405": "tiger"}, **about)
    found = drawings(tmp_path, "ph")
    assert found.keys() == {"1f408", "1f405"} and "cat-1" in found["1f408"]


def test_a_font_is_drawn_black_on_white(packages):
    found = glyphs(packages, tiny_pictures.LINES)
    assert found.keys() == {"41", "42", "31"}, "a space shows nothing"
    assert found["41"].tobytes() != found["42"].tobytes()
    picture = tiny_pictures.picture(found["31"])
    assert picture.size == (112, 112) and picture.getpixel((0, 56)) == (255, 255, 255)
    assert {r == g == b for _, (r, g, b) in picture.getcolors(112**2)} == {True}


def test_what_is_missing_or_damaged_is_said(packages, tmp_path):
    with pytest.raises(XLLMError, match="emojibase-data.*npm pack"):
        tiny_pictures.concepts(tmp_path, KNOWN)
    (packages / "iconify-json-noto-1.0.0.tgz").write_bytes(b"broken")
    with pytest.raises(XLLMError, match="iconify-json-noto-1.0.0.tgz"):
        tiny_pictures.prepare(packages, tmp_path, KNOWN)
    with pytest.raises(XLLMError, match="cannot be drawn"):
        tiny_pictures.picture("<svg")


def test_splits_share_no_picture_and_the_tests_things_and_style_are_not_trained_on(packages, tmp_path):
    counts = tiny_pictures.prepare(packages, tmp_path, KNOWN)
    rows = read(tmp_path)
    assert counts == {f"pictures-{part}": len(rows[part]) for part in rows}
    names = {part: {row["response"] for row in rows[part]} for part in rows}
    styles = {part: {row["id"].split("/")[0] for row in rows[part]} for part in rows}
    assert max(Counter(row["id"] for part in rows.values() for row in part).values()) == 1
    assert not names["test-concepts"] & (names["train"] | names["dev"] | names["test-style"])
    assert len(names["test-concepts"]) == 2 and len(names["train"]) == 19
    assert "openmoji" not in styles["train"] | styles["dev"] | styles["test-concepts"]
    assert styles["test-style"] == {"openmoji"} and names["test-style"] == names["train"] - {"红心"}
    assert styles["train"] >= {"ph", tiny_pictures.SOLID} and not {"ph", tiny_pictures.SOLID} & styles["test-concepts"]
    assert len(rows["dev"]) == 2 and names["dev"] <= names["train"]
    wordings = {part: {row["instruction"] for row in rows[part]} for part in rows}
    assert len(wordings["train"]) > 2 and all(len(wordings[part]) == 1 for part in rows if part != "train")


def test_pictures_are_whole_on_white(packages, tmp_path):
    tiny_pictures.prepare(packages, tmp_path, KNOWN)
    for row in (row for part in read(tmp_path).values() for row in part):
        with Image.open(row["image"][0]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (112, 112))
            assert image.getpixel((0, 0)) == (255, 255, 255) and (204, 0, 51) in dict(
                map(reversed, image.getcolors(112**2))
            )


def test_the_same_seed_gives_the_same_bytes(packages, tmp_path):
    for seed, folder in ((0, "a"), (0, "b"), (1, "c")):
        tiny_pictures.prepare(packages, tmp_path / folder, KNOWN, seed=seed)
    a, b, c = (
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        for folder in "abc"
    )
    assert a == b and a != c


def test_stamps_train_only_and_never_show_what_the_tests_hold(packages, stamps, tmp_path):
    names = {"noto": [*ANIMALS, "红心"], "fluent-emoji-flat": ANIMALS, "twemoji": "猫狗马", "openmoji": ANIMALS}
    names = dict.fromkeys(tiny_pictures.STYLES, "") | names
    held = [{name for _, name in tiny_pictures.split(names, seed)["test-concepts"]} for seed in range(40)]
    for seed, shown in (
        (next(seed for seed in range(40) if "猫" not in held[seed]), {"瓢虫", "蜘蛛", "猫"}),
        (next(seed for seed in range(40) if "猫" in held[seed]), {"瓢虫", "蜘蛛"}),
    ):
        counts = tiny_pictures.prepare(packages, tmp_path, KNOWN, stamps, seed=seed)
        rows = read(tmp_path)
        assert {row["response"] for row in rows["test-concepts"]} == held[seed]
        found = {row["response"]: row["image"][0] for row in rows["train"] if row["id"].startswith("stamps/")}
        assert set(found) == shown
        assert counts["stamps"] == len(shown) and counts["stamps left out"] == 5 - len(shown)
    with Image.open(found["瓢虫"]) as wide, Image.open(found["蜘蛛"]) as tall:
        assert wide.size == tall.size == (112, 112)
        assert [wide.getpixel((56, y)) for y in (5, 56)] == [(255, 255, 255), (0, 0, 255)]
        assert [tall.getpixel((x, 56)) for x in (5, 56)] == [(255, 255, 255), (0, 0, 0)]
    page = (tmp_path / "pictures" / "LICENSES.md").read_text()
    assert "2022.06.04-1 | Bill Kendrick" in page and "@iconify-json/noto 1.0.0 | Ann, a.org | MIT" in page
    with pytest.raises(XLLMError, match="no stamps"):
        tiny_pictures.prepare(packages, tmp_path, KNOWN, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "name"),
    [("一只蜘蛛。", "蜘蛛"), ("一。", "一"), ("红心！", "红心"), ("猫，狗。", None), ("一只红象。", None), ("", None)],
)
def test_captions(line, name):
    text = f"A thing.\nzh_CN.utf8={line}\nzu=x\n"
    assert tiny_stamps.caption(text, lambda name: 0 < len(name) < 7 and KNOWN.issuperset(name)) == name
