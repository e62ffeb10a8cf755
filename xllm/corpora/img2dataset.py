"""Sets that are lists of addresses, whose pictures img2dataset has fetched: into folders, or into tar shards.

A sample is `000000123.jpg` with `000000123.json` (`caption`, `url`, …) and `000000123.txt`, the caption alone.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress

from xllm.corpora.raw import Raw
from xllm.errors import XLLMError
from xllm.steps.rows import Dropped
from xllm.steps.run import Row

PICTURES = (".jpg", ".png", ".webp")


def samples(raw: Raw, corpus: str) -> Iterator[Row]:
    """A row for each sample that is there. Raises XLLMError when there is none."""
    for picture, about in _pictures(raw):
        key = picture.rpartition("/")[2].rpartition(".")[0]
        yield {"id": f"{corpus}-{key}", "image": picture, "response": about.get("caption")}


def listed(raw: Raw, entries: Iterable[tuple[str, str, str] | Dropped]) -> Iterator[Row | Dropped]:
    """A row for each of the entries (id, address, caption) of a list that has been fetched. Raises as `samples`."""
    picture_of = raw.lookup("img2dataset", lambda: ((a["url"], name) for name, a in _pictures(raw) if a.get("url")))
    for entry in entries:
        if isinstance(entry, Dropped):
            yield entry
            continue
        name, url, caption = entry
        if (picture := picture_of(url)) is None:
            yield Dropped(name, "not downloaded", url)
        else:
            yield {"id": name, "image": picture, "response": caption}


def _pictures(raw: Raw) -> Iterator[tuple[str, dict]]:
    """Names of pictures, and what stands about each beside it."""
    name = None
    for name in raw.names(PICTURES):
        yield name, _about(raw, name.rpartition(".")[0])
    if name is None:
        raise XLLMError(f"{raw.root}: holds no pictures; img2dataset fetches them, with a list that says from where")


def _about(raw: Raw, stem: str) -> dict:
    about = None
    with suppress(XLLMError, ValueError, RecursionError), raw.open(f"{stem}.json") as file:
        about = json.load(file)
    about = about if isinstance(about, dict) else {}
    if not about.get("caption"):
        with suppress(XLLMError), raw.open(f"{stem}.txt") as file:
            about["caption"] = file.read().decode(errors="surrogateescape")
    return about
