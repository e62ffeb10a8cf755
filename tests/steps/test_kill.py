"""SIGKILL at fifty random moments of a chain of steps: what is there in the end is what an undisturbed run leaves."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from xllm.steps.rows import read_rows

RECIPE = """
name: chain
steps:
  - {do: visdial, raw: visdial, to: english, splits: [train]}
  - {do: translate, from: english/train.jsonl, to: chinese/train.jsonl, model: MODEL}
  - {do: turns, from: chinese/train.jsonl, to: turns/train.jsonl}
  - {do: synthesize, from: turns/train.jsonl, to: spoken/train.jsonl, command: "install -T TONE {out} --suffix={text}"}
  - {do: filter, from: spoken/train.jsonl, to: unique.jsonl, unique: [response]}
  - {do: check, from: unique.jsonl, to: checked.jsonl}
  - {do: shard, from: checked.jsonl, to: shards/train.jsonl, per_shard: 7}
  - {do: draw, from: checked.jsonl, to: drawn.jsonl, count: 5}
"""
# One process imports everything; its forks do the work and are killed.
CHILD = """
import os, pathlib, signal, sys, time
import torch, xllm.media, xllm.pictures
from xllm.steps import run
from xllm.steps.recipe import follow, load_tasks
run.COMMIT, run.CHUNK = 0.0, 5
recipe, raw = sys.argv[1:]
for line in sys.stdin:
    out, seconds = line.split()
    if not (pid := os.fork()):
        for _ in follow(load_tasks(pathlib.Path(recipe)), pathlib.Path(raw), pathlib.Path(out)):
            pass
        os._exit(0)
    if float(seconds):
        time.sleep(float(seconds))
        os.kill(pid, signal.SIGKILL)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.fixture
def corpus(tmp_path, spoken_wav) -> Path:
    """Twelve dialogues whose questions repeat; one has no picture."""
    raw = tmp_path / "raw" / "visdial"
    (raw / "train2014").mkdir(parents=True)
    questions = [f"what is number {number}" for number in range(17)]
    answers = ["yes", "no", ""]
    dialogues = []
    for image in range(12):
        if image != 7:
            Image.new("RGB", (8, 8), (image, 0, 0)).save(raw / "train2014" / f"COCO_train2014_{image:012d}.jpg")
        turns = [{"question": (image * 3 + k) % 17, "answer": (image + k) % 3} for k in range(4)]
        dialogues.append({"image_id": image, "caption": f"a thing {image}", "dialog": turns})
    data = {"questions": questions, "answers": answers, "dialogs": dialogues}
    (raw / "visdial_1.0_train.json").write_text(json.dumps({"split": "train", "data": data}))
    texts = [*questions, *answers, *(f"a thing {image}" for image in range(12))]
    (tmp_path / "given.json").write_text(json.dumps({text: f"译{text}" for text in texts if text}))
    recipe = RECIPE.replace("MODEL", str(tmp_path / "given.json")).replace("TONE", str(spoken_wav))
    (tmp_path / "chain.yaml").write_text(recipe)
    return tmp_path


@pytest.fixture
def spoken_wav(tmp_path) -> Path:
    import math
    import struct
    import wave

    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(i / 9))) for i in range(4000)))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_fifty_kills_change_nothing(corpus):
    chance, kills = random.Random(0), 0
    zygote = subprocess.Popen(
        [sys.executable, "-c", CHILD, corpus / "chain.yaml", corpus / "raw"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def live(out: str, seconds: float = 0.0) -> int:
        zygote.stdin.write(f"{corpus / out} {seconds}\n")
        zygote.stdin.flush()
        return int(zygote.stdout.readline())

    try:
        assert live("first") == 0
        whole = tree(corpus / "first")
        begun = time.monotonic()
        assert live("second") == 0 and tree(corpus / "second") == whole, "two runs leave the same bytes"
        took = time.monotonic() - begun
        interrupted = 0
        while kills < 50:
            out = f"out-{interrupted}"
            while killed := live(out, chance.uniform(0.01, 0.9 * took)):
                assert killed == 9
                kills += 1
            interrupted += 1
            assert tree(corpus / out) == whole
    finally:
        zygote.stdin.close()
        zygote.wait()
    rows = list(read_rows(corpus / "first" / "checked.jsonl"))
    assert len(rows) == 17 and all(row["response"].startswith("译") and row["duration"] == 0.25 for row in rows)
    assert len(list((corpus / "first" / "shards").glob("*.tar"))) == 3
    assert not any(".work" in name or ".tmp" in name for name in whole)
