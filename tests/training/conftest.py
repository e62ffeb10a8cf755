"""A world small enough to train in seconds: spoken tones, a dozen characters, a recipe of all stages."""

import json
import math
import struct
import wave
from pathlib import Path

import pytest
import yaml

SPOKEN = {"天": "tian1", "地": "di4", "人": "ren2", "你": "ni3", "我": "wo3", "他": "ta1"}


def write_picture(path: Path, number: int, at: int = 4) -> None:
    """A square of one of six colours on grey, `at` pixels from the left."""
    from PIL import Image

    colour = tuple(255 * (number >> bit & 1) for bit in range(3))
    picture = Image.new("RGB", (24, 24), (128, 128, 128))
    picture.paste(colour, (at, 6, at + 10, 18))
    picture.save(path)


def write_film(path: Path, number: int) -> None:
    """That square on its way to the right, as an animated GIF."""
    from PIL import Image

    for place in range(4):
        write_picture(path.with_suffix(f".{place}.png"), number, 3 * place)
    frames = [Image.open(path.with_suffix(f".{place}.png")) for place in range(4)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)


def write_tones(path: Path, pitches: list[int]) -> float:
    """A wav of one tone per pitch, 0.2 s each; returns its seconds."""
    samples = [int(8000 * math.sin(2 * math.pi * (200 + 150 * p) * i / 16000)) for p in pitches for i in range(3200)]
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1), out.setsampwidth(2), out.setframerate(16000)
        out.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return len(samples) / 16000


@pytest.fixture
def world(tmp_path: Path, small_tokenizer: Path) -> Path:
    """A folder with tokenizer, manifests and `recipe.yaml`; every stage trains in seconds on it."""
    rows, texts = [], []
    for i in range(14):
        pitches = [(i + k * (1 + i % 3)) % 6 for k in range(2 + i % 4)]
        seconds = write_tones(tmp_path / f"{i}.wav", pitches)
        response = "".join(list(SPOKEN)[p] for p in pitches)
        reading = " ".join(SPOKEN[c] for c in response)
        rows.append(
            {"id": f"s{i}", "speech": f"{i}.wav", "duration": seconds, "response": response + "。", "reading": reading}
        )
        texts.append({"id": f"t{i}", "response": response, "reading": reading})
    seen, films, joint, heard = [], [], [], []
    for i, character in enumerate(SPOKEN):
        write_picture(tmp_path / f"{i}.png", i + 1)
        write_film(tmp_path / f"{i}.gif", i + 1)
        told = {"told": {"image": character}} if i % 2 else {}
        seen.append({"id": f"i{i}", "image": f"{i}.png", "instruction": "天？", "response": character, **told})
        told = {"told": {"video": f"{character}|{character}人"}} if i % 2 else {}
        films.append({"id": f"v{i}", "video": f"{i}.gif", "instruction": "地？", "response": character + "人", **told})
        joint.append({**rows[i], **seen[i], "id": f"j{i}"})  # asked in speech, about a picture
        heard.append({**rows[i], "image": f"{i}.png", "caption": rows[i]["response"] if i % 2 else None})
    everything = {"train": rows[:10], "dev": rows[10:], "text": texts, "seen": seen, "films": films}
    everything["heard"] = [*heard, *rows[6:9]]
    everything["joint"] = [*joint, *seen, *films, *rows[:4]]
    for name, values in everything.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in values)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    at = str(tmp_path)
    common = {
        "epochs": 2,
        "log_every": 1,
        "save_every": 2,
        "average": 2,
        "lr": 1e-3,
        "schedule": {"kind": "cosine", "warmup": 2, "decay": 20},
    }
    recipe = {
        "name": "small",
        "seed": 3,
        "model": {
            "tokenizer": str(small_tokenizer),
            "recognizer": {
                "encoder": {
                    "channels": 4,
                    "width": 16,
                    "ffn": 32,
                    "heads": 2,
                    "kernel": 5,
                    "blocks": 2,
                    "pool_after": [1, 2],
                },
                "cif": {"channels": 16},
                "decoder": {
                    "width": 16,
                    "ffn": 32,
                    "heads": 2,
                    "blocks": 1,
                    "visual_blocks": [],
                    "linguistic_blocks": [],
                    "syllables": True,
                },
            },
            "speech": {
                "bert": None,
                "width": 16,
                "ffn": 32,
                "heads": 2,
                "layers": 1,
                "max_tokens": 64,
                "text_weight": 0.3,
            },
            "vision": {"size": 16, "patch": 8, "width": 16, "depth": 2, "heads": 2},
            "image": {"queries": 3, "width": 16, "ffn": 32, "heads": 2, "layers": 2, "text_weight": 0.3},
            "frames": 2,
            "llm": {"width": 16, "ffn": 32, "heads": 2, "layers": 1, "max_tokens": 128},
        },
        "stages": {
            "llm": {
                "stage": 0,
                "modality": "text",
                "train": [f"{at}/text.jsonl"],
                "output": f"{at}/run0",
                "batch_cost": 100,
                **common,
            },
            "recognizer": {
                "stage": 1,
                "modality": "speech",
                "train": [f"{at}/train.jsonl", f"{at}/text.jsonl"],
                "dev": [f"{at}/dev.jsonl"],
                "output": f"{at}/run1",
                "batch_cost": 250,
                **common,
            },
            "interface": {
                "stage": 2,
                "modality": "speech",
                "train": [f"{at}/train.jsonl", f"{at}/text.jsonl"],
                "dev": [f"{at}/dev.jsonl"],
                "start_from": [f"{at}/run0", f"{at}/run1"],
                "output": f"{at}/run2",
                "cache": f"{at}/cache",
                "views": 2,
                "batch_cost": 60,
                **common,
            },
            "eyes": {
                "stage": 0,
                "modality": "image",
                "train": [f"{at}/seen.jsonl"],
                "output": f"{at}/run0i",
                "batch_cost": 4,
                **common,
            },
            "pictures": {
                "stage": 2,
                "modality": "image",
                "train": [f"{at}/seen.jsonl"],
                "start_from": [f"{at}/run0", f"{at}/run0i"],
                "output": f"{at}/run2i",
                "batch_cost": 30,
                **common,
            },
            "films": {
                "stage": 2,
                "modality": "video",
                "train": [f"{at}/films.jsonl"],
                "start_from": [f"{at}/run0", f"{at}/run0i", f"{at}/run2i"],
                "output": f"{at}/run2v",
                "batch_cost": 30,
                **common,
            },
            "looking": {
                "stage": 1,
                "modality": "masr",
                "train": [f"{at}/heard.jsonl", f"{at}/text.jsonl"],
                "start_from": [f"{at}/run0", f"{at}/run0i"],
                "output": f"{at}/run1m",
                "batch_cost": 250,
                **common,
            },
            "joint": {
                "stage": 3,
                "modality": "all",
                "train": [f"{at}/joint.jsonl"],
                "start_from": [f"{at}/run{n}" for n in ("0", "0i", "1", "2", "2i", "2v")],
                "output": f"{at}/run3",
                "batch_cost": 60,
                **common,
            },
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return tmp_path
