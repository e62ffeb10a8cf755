"""Media into tar shards in WebDataset's layout; the manifest that comes out is their index.

A sample is `000000123.json` and its media beside it, `000000123.wav`; the json is the row, with endings in place of
paths. The manifest says where the bytes of each begin, so that training reads the shards in order, or at random, and
other loaders read them as they are.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from xllm.config import Config
from xllm.members import open_any, reference, split_reference
from xllm.steps.rows import Dropped, map_media, media_of
from xllm.steps.run import Made, Row

NUMBER = "_number"  # a row's place among all, in the row until its shard is written
_KINDS = {  # first bytes of a file, for members that have no name of their own
    b"RIFF": "wav",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"ID3": "mp3",
    b"\xff\xfb": "mp3",
    b"\xff\xf3": "mp3",  # of 16 kHz
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"\x1aE\xdf\xa3": "webm",
}


def numbered(rows: Iterable[Row | Dropped]) -> Iterator[Row | Dropped]:
    """Rows that know their place: a chunk of as many as a shard holds is a shard."""
    for number, row in enumerate(rows):
        yield row if isinstance(row, Dropped) else row | {NUMBER: number}


class Shard(Config):
    """Rows of a chunk to one tar, `<name>-000012.tar`, written whole or not at all."""

    per_shard: int = Field(5000, gt=0, description="samples of a shard")
    folder: Path = Field(Path("."), description="where the shards go: beside the manifest")
    scratch: Path = Field(Path("."), description="for shards in the making, on the same disk")
    name: str = Field("shard", description="what they are called: as the manifest")

    def __call__(self, rows: list[Row]) -> Made:
        if not rows:
            return []
        path = self.folder / f"{self.name}-{rows[0][NUMBER] // self.per_shard:06d}.tar"
        temporary = self.scratch / f"{path.name}.{os.getpid()}"
        with temporary.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                made = [self._put(row, tar, str(path)) for row in rows]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return made

    def _put(self, row: Row, tar: tarfile.TarFile, path: str) -> Row | Dropped:
        """Add a sample to the tar; its row with media named by where their bytes are."""
        key = f"{row[NUMBER]:09d}"
        row = {name: value for name, value in row.items() if name != NUMBER}
        files: list[tuple[str, bytes]] = []
        for _, source in media_of(row):
            try:
                with open_any(source) as file:
                    data = file.read()
            except (OSError, ValueError) as error:  # ValueError: no file can have such a name
                why = getattr(error, "strerror", None) or error
                return Dropped(row["id"], "cannot be read", f"{source}: {why}", failed=True)
            files.append((_kind(source, data), data))
        kinds = [kind for kind, _ in files]
        ends = [f"{number}.{kind}" if kinds.count(kind) > 1 else kind for number, kind in enumerate(kinds)]
        try:
            about = json.dumps(_called(row, ends), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Dropped(row["id"], "not UTF-8", failed=True)
        _add(tar, f"{key}.json", about)
        places = [_add(tar, f"{key}.{end}", data) for end, (_, data) in zip(ends, files, strict=True)]
        return _called(row, [reference(path, at, len(data)) for at, (_, data) in zip(places, files, strict=True)])


def _called(row: Row, names: Iterable[str]) -> Row:
    """The row with other names for its media."""
    left = iter(names)
    return map_media(dict(row), lambda _: next(left))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member; where its bytes begin."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    tar.members = []
    return tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _kind(source: str, data: bytes) -> str:
    """The ending of a file's name; where that is none of media, as a member's, its first bytes say.

    Loaders choose what they do by it, and unpickle some: `.pkl` never gets into a shard.
    """
    from xllm.media import MEDIA_SUFFIXES
    from xllm.pictures import PICTURE_SUFFIXES

    suffix = Path(source).suffix.lower()
    if split_reference(source) is None and suffix in MEDIA_SUFFIXES.union(PICTURE_SUFFIXES):
        return suffix[1:]
    if data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"AVI "):
        return data[8:12].decode().strip().lower()
    if data[4:8] == b"ftyp":
        return "mp4"
    return next((kind for start, kind in _KINDS.items() if data.startswith(start)), "bin")
