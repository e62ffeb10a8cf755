"""Emoji as npm packages keep them, and from SVG to pixels.

`emojibase-data` has the names; an iconify package has the drawings of one style and which code points they stand for.
Another style comes as picture files, and one as a font.
"""

import json
import re
import tarfile
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from xllm.errors import XLLMError
from xllm.pictures import open_picture, over_white

SIDE = 112  # pixels, of every picture
NAMED = "noto"  # has code points and names of all emoji
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    f'width="{SIDE}" height="{SIDE}" viewBox="0 0 {{}} {{}}">{{}}</svg>'
)


def _read(folder: Path, package: str, wanted: str) -> dict[str, bytes]:
    """Files of the packed npm `package` in `folder` whose paths match `wanted`, by path. Raises XLLMError."""
    found = sorted(folder.glob(f"{package}-[0-9]*.tgz"))
    if not found:
        raise XLLMError(f"{folder}: no {package}-*.tgz; run npm pack (docs/tiny.md has the list)")
    try:
        with tarfile.open(found[-1]) as tar:
            files = {file.name.removeprefix("package/"): file for file in tar if file.isfile()}
            read = {name: tar.extractfile(files[name]).read() for name in sorted(files) if re.fullmatch(wanted, name)}
    except (OSError, EOFError, tarfile.TarError) as error:
        raise XLLMError(f"{found[-1]}: cannot be read ({error}); run npm pack again") from None
    if not read:
        raise XLLMError(f"{found[-1]}: has no {wanted}; run npm pack again")
    return read


def member(folder: Path, package: str, member: str) -> dict | list:
    """What a JSON file of the packed npm `package` in `folder` holds. Raises XLLMError."""
    try:
        return json.loads(_read(folder, package, re.escape(member))[member])
    except ValueError as error:
        raise XLLMError(f"{package}-*.tgz: {member} cannot be read ({error}); run npm pack again") from None


def plain(code: str) -> str:
    """A code point sequence without FE0F, which asks for colour and which packages write or leave out at will."""
    return code.lower().replace("-fe0f", "")


def drawings(folder: Path, style: str) -> dict[str, str]:
    """SVG by code point sequence, of one style; where it has names only, those that the style NAMED has, too."""
    package = f"iconify-json-{style}"
    icons, names = member(folder, package, "icons.json"), member(folder, package, "chars.json")
    if not names:
        own = {re.sub("-1$", "", name).replace("-", ""): name for name in icons["icons"]}
        named = member(folder, f"iconify-json-{NAMED}", "chars.json")
        names = {code: own.get(name.replace("-", "")) for code, name in named.items()}
    found = {}
    for code, name in names.items():
        icon = icons["icons"].get(name)
        if icon is not None:
            width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
            found[plain(code)] = SVG.format(width, height, icon["body"])
    return found


def pictures(folder: Path, package: str) -> dict[str, bytes]:
    """Picture files by code point sequence, of a package that keeps them as `assets/1f43c.webp`."""
    return {plain(Path(name).stem): data for name, data in _read(folder, package, r"assets/[0-9a-f-]+\.webp").items()}


def glyphs(folder: Path, package: str) -> dict[str, Image.Image]:
    """Black on white by code point, of a fontsource package: its regular font and the code points in it."""
    (font,) = _read(folder, package, r"files/.*-emoji-400-normal\.woff").values()
    font, found = ImageFont.truetype(BytesIO(font), SIDE), {}
    for span in ",".join(member(folder, package, "unicode.json").values()).split(","):
        first, _, last = span.removeprefix("U+").partition("-")
        for code in range(int(first, 16), int(last or first, 16) + 1):
            glyph = Image.new("RGB", (2 * SIDE, 2 * SIDE), "white")
            ImageDraw.Draw(glyph).text((SIDE, SIDE), chr(code), font=font, fill="black", anchor="mm")
            if box := ImageOps.invert(glyph).getbbox():
                found[f"{code:x}"] = glyph.crop(box)
    return found


def draw(svg: str | Path, side: int = SIDE) -> Image.Image:
    """An SVG, or one in a file, `side` pixels wide over white."""
    try:
        import resvg_py
    except ImportError:
        raise XLLMError("drawing SVG needs resvg-py: pip install 'xllm-cli[train]'") from None
    # Without a dpi the binding takes 0, and what is measured in points has no size.
    source = {"svg_path": str(svg)} if isinstance(svg, Path) else {"svg_string": svg}
    try:
        png = resvg_py.svg_to_bytes(**source, width=side, dpi=96, skip_system_fonts=True)
    except ValueError as error:
        raise XLLMError(f"{str(svg)[-80:]}: cannot be drawn: {error}") from None
    with open_picture(BytesIO(png)) as image:
        return over_white(image)
