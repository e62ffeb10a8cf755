"""Tux Paint's stamps (GPL 2): pictures with a sentence beside each, of which some are just a name."""

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

MEASURED = re.compile("^一[个只把棵朵条张座颗面道辆艘片杯支对块串副]")
MISTAKEN = frozenset(  # files whose Chinese line says something else (a sliced lime is 石灰), or that white paper hides
    "anthoorium bear blankroadsign bolsom bow broccoli cave_entrance cheese dead_end_sign docks dreydl excited "
    "explosion fireworks fireworks2 fishery fountain ghost grave-b grave-i key_sharp lightningbolt mad magic_stones "
    "mine op2_multiply prune scream_balloon sliced_lime thought_balloon wishing_well xanthia xmaswreath yak".split()
)


def caption(text: str, is_name: Callable[[str], bool]) -> str | None:
    """The name in the Chinese line of a stamp's description: `一只蜘蛛。` -> `蜘蛛`; None when it says no name."""
    line = re.search(r"^zh_CN\.utf8=(.*)$", text, re.MULTILINE)
    whole = line[1].strip().rstrip("。！!") if line else ""
    return next((name for name in (MEASURED.sub("", whole), whole) if is_name(name)), None)


def stamps(folder: Path, is_name: Callable[[str], bool]) -> Iterator[tuple[str, str | None, Path]]:
    """Id, name (None when there is none) and picture file of every stamp below `folder`, in the order of ids."""
    root = next(folder.rglob("tuxpaint/stamps"), folder)
    for text in sorted(root.rglob("*.txt")):
        picture = next((p for p in map(text.with_suffix, (".png", ".svg")) if p.exists()), None)
        if picture is not None:
            known = text.stem not in MISTAKEN
            name = caption(text.read_text(encoding="utf-8", errors="replace"), is_name) if known else None
            yield text.relative_to(root).with_suffix("").as_posix(), name, picture


def version(folder: Path) -> str:
    """Of the unpacked Debian package, as its changelog says."""
    log = next(folder.rglob("changelog.Debian.gz"), None)
    found = re.search(r"\((\S+)\)", gzip.decompress(log.read_bytes()).decode()) if log else None
    return found[1] if found else "of unknown version"
