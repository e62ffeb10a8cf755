"""Which keys have come before: a set on disk, so that a hundred million rows cost no memory."""

import hashlib
import sqlite3
from pathlib import Path


class Seen:
    """Keys of rows by number. Kept as 64 bits: a corpus of a hundred million loses a row to chance once in 3,700."""

    def __init__(self, path: Path, rows: int):
        """Opens the set, without what was added for row number `rows` and later: those were not committed."""
        self._rows = sqlite3.connect(path)
        self._rows.execute("CREATE TABLE IF NOT EXISTS seen (key INTEGER PRIMARY KEY, row INTEGER)")
        self._rows.execute("DELETE FROM seen WHERE row >= ?", (rows,))
        self._rows.commit()

    def add(self, key: str, row: int) -> bool:
        """Add a key; False when it was there."""
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        return self._rows.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (number, row)).rowcount > 0

    def commit(self) -> None:
        """All that was added is on disk when this returns."""
        self._rows.commit()

    def close(self) -> None:
        self._rows.close()
