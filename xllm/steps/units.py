"""The characters that a recogniser writes, from what was said in its training manifests."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xllm.errors import ManifestError
from xllm.files import write_atomic
from xllm.steps.rows import Dropped, read_rows
from xllm.text import normalize


def write_units(manifests: Sequence[Path], folder: Path, least: int = 1) -> tuple[int, int]:
    """Write `units.txt` into `folder`: characters of what was said that come `least` times or more, by frequency.

    Returns how many there are, and how many rarer ones were left out: `<unk>` to the recogniser. Raises ManifestError
    when nothing was said.
    """
    counts: Counter[str] = Counter()
    for manifest in manifests:
        for row in read_rows(manifest):
            if not isinstance(row, Dropped) and row.get("speech"):
                counts.update(normalize(row.get("response") or ""))
    kept = sorted((c for c, count in counts.items() if count >= least), key=lambda c: (-counts[c], c))
    if not kept:
        raise ManifestError(f"{', '.join(map(str, manifests))}: no row has speech and a response")
    write_atomic(folder / "units.txt", "\n".join(kept) + "\n")
    return len(kept), len(counts) - len(kept)
