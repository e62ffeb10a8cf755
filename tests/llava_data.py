"""LLaVA-test in small: questions about red and blue pictures, in its files."""

import json
from pathlib import Path

from PIL import Image

CATEGORIES = ("conv", "detail", "complex")


def write_jsonl(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def llava_data(folder: Path, questions: int = 6, chinese: bool = True) -> Path:
    """A data folder; its pictures are in images/."""
    (folder / "images").mkdir(parents=True)
    names = [f"{i // 3:04}.jpg" for i in range(questions)]
    for name in dict.fromkeys(names):
        Image.new("RGB", (8, 8), "red").save(folder / "images" / name)
    asked = [
        {"question_id": i, "image": names[i], "text": f"Question {i}?", "category": CATEGORIES[i % 3]}
        for i in range(questions)
    ]
    write_jsonl(folder / "question90.jsonl", asked)
    if chinese:
        rows = [row | {"text_zh": f"问题{row['question_id']}？"} for row in asked]
        (folder / "question90_zh.json").write_text(json.dumps(rows), encoding="utf-8")
    write_jsonl(
        folder / "qa90_gpt4_answer.jsonl", [{"question_id": i, "text": f"It is {i}."} for i in range(questions)]
    )
    shown = {"captions": ["A red square."], "instances": [{"category": "square", "bbox": [0, 0, 1, 1]}]}
    write_jsonl(
        folder / "caps_boxes_coco2014_val_80.jsonl", [{"image": name, **shown} for name in dict.fromkeys(names)]
    )
    rules = {category: {"role": "Assistant", "prompt": f"Rate {category}."} for category in CATEGORIES}
    (folder / "rule.json").write_text(json.dumps(rules))
    return folder


def answers_file(path: Path, questions: int = 6, text: str = "Answer {}.") -> Path:
    return write_jsonl(path, [{"question_id": i, "text": text.format(i)} for i in range(questions)])


def rate(body: dict, scores: str = "8 10") -> str:
    """What a judge that keeps to the rules replies to a request."""
    mark = next(word for word in body["messages"][-1]["content"].split() if word.startswith("SCORES-"))
    return f"{mark} {scores}\nIt is what it is."
