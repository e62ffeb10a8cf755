"""The commands that documents show."""

import re
import shlex
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "examples" / "README.md", *(ROOT / "docs").glob("*.md")])
OPERATORS = {"|", "||", "&", "&&", ";", ">", "<"}


def shell_lines(page: Path, heading: str | None = None) -> list[str]:
    """Lines of the page's `sh` blocks (of the section under a heading), continued ones joined, without comments."""
    text = page.read_text(encoding="utf-8")
    if heading is not None:
        text = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, flags=re.MULTILINE | re.DOTALL)[1]
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s)#\s.*", "", line).strip() for line in lines) if line]


def xllm_commands(line: str) -> list[list[str]]:
    """Words of each `xllm` command of a line, without `xllm`; none where a quotation goes on in the next line."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    try:
        parts = [list(part) for operator, part in groupby(words, OPERATORS.__contains__) if not operator]
    except ValueError:
        return []
    return [part[1:] for part in parts if part[0] == "xllm"]


def inline_commands(page: Path) -> list[list[str]]:
    """Words of the `xllm` commands that the page's prose names with options."""
    found = re.findall(r"`(xllm [^`]*)`", page.read_text(encoding="utf-8"))
    return [words for line in found for words in xllm_commands(" ".join(line.split()))]
