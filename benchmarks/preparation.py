"""Claim: a corpus of a million captions becomes a manifest at 50,000 rows/s and more, in memory that does not grow.

    python benchmarks/preparation.py [--rows 1000000] [--rounds 3]

Makes corpora of 0.1 and 1 million captions in COCO's layout (20,000 images), then, each in a process of its own and
taking turns: ours (`convert`: images looked for, duplicates, every input counted, resumable), and the usual script,
which loads the JSON whole, looks for the images and writes the rows. Prints medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = 20_000
OURS = """
import sys, time
from pathlib import Path
from xllm.corpora.corpus import convert
from xllm.corpora.raw import Raw
from xllm.corpora.table import CORPORA
begun = time.perf_counter()
with Raw(Path(sys.argv[1]), Path(sys.argv[2])) as tree:
    kept = convert(CORPORA["coco"], tree, "train2014").kept
seconds = time.perf_counter() - begun
print(kept, seconds, int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024)
"""
USUAL = """
import json, os, sys, time
begun = time.perf_counter()
raw, out = sys.argv[1:]
os.makedirs(out)
data = json.load(open(f"{raw}/annotations/captions_train2014.json"))
files = {image["id"]: image["file_name"] for image in data["images"]}
rows = []
for row in data["annotations"]:
    image = os.path.join(raw, "train2014", files[row["image_id"]])
    if os.path.exists(image):
        rows.append({"id": row["id"], "image": image, "response": row["caption"]})
with open(f"{out}/train2014.jsonl", "w") as file:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\\n")
seconds = time.perf_counter() - begun
print(len(rows), seconds, int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024)
"""


def corpus(root: Path, rows: int) -> None:
    """`rows` captions in COCO's layout; the images are empty files, since conversion looks no further."""
    names = [f"COCO_train2014_{number:012d}.jpg" for number in range(IMAGES)]
    (root / "annotations").mkdir(parents=True)
    (root / "train2014").mkdir()
    for name in names:
        (root / "train2014" / name).touch()
    captions = (
        {"id": n, "image_id": n % IMAGES, "caption": f"A man in a red shirt, number {n}, rides a wave on a surfboard."}
        for n in range(rows)
    )
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    (root / "annotations" / "captions_train2014.json").write_text(
        json.dumps({"images": images, "annotations": list(captions)})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sizes = (given.rows // 10, given.rows)
        for rows in sizes:
            corpus(Path(folder) / str(rows), rows)
        for turn in range(given.rounds):
            for rows in sizes:
                for name, code in (("ours", OURS), ("usual", USUAL)):
                    out = Path(folder) / f"{name}-{rows}-{turn}"
                    run = [sys.executable, "-c", code, Path(folder) / str(rows), out]
                    kept, seconds, memory = subprocess.run(
                        run, capture_output=True, text=True, check=True
                    ).stdout.split()
                    assert int(kept) == rows
                    found.setdefault((name, rows), []).append((rows / float(seconds), float(memory)))
    print(f"{'':8}{'rows':>10}{'rows/s':>10}{'peak MB':>10}")
    for (name, rows), runs in found.items():
        rate, memory = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{name:8}{rows:>10,}{rate:>10,.0f}{memory:>10,.0f}")


if __name__ == "__main__":
    main()
