"""The files of LLaVA-test: what they hold, where they lie, where they come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xllm.errors import ConfigError
from xllm.evaluation.judge import Case, Rule, describe, read_rows, read_rules

QUESTIONS, QUESTIONS_ZH = "question90.jsonl", "question90_zh.json"
REFERENCES, PICTURES, RULES = "qa90_gpt4_answer.jsonl", "caps_boxes_coco2014_val_80.jsonl", "rule.json"
FILES = {
    QUESTIONS: "JSON Lines of question_id, image, text, category (conv, detail or complex)",
    REFERENCES: "JSON Lines of question_id, text: GPT-4's answers",
    PICTURES: "JSON Lines of image, captions, instances (category, bbox): what the judge is told of the images",
    RULES: "a JSON object of categories, each with role, prompt: what the judge is asked",
}
OPTIONAL = {QUESTIONS_ZH: "a JSON list of question_id, text_zh; without it --translator translates the questions"}
SOURCE = "https://github.com/phellonchen/X-LLM, xllm/datasets/process_own_dataset/eval_llava_data and its tabel"
IMAGES = "https://cocodataset.org/#download, 2014 Val images"
DATA_FOLDER, IMAGE_FOLDERS = "llava_test", ("images", "val2014")
COCO = "COCO_val2014_"  # which COCO's own names begin with, and LLaVA's do not


@dataclass(frozen=True)
class Item:
    """A question about a picture that captions and boxes describe, and GPT-4's answer."""

    id: str
    category: str
    question: str
    image: str
    context: str
    reference: str

    def case(self, answer: str) -> Case:
        """What the judge is to see of an English answer."""
        return Case(self.category, self.question, self.context, answer, self.reference)


def find_data(here: Path) -> Path | None:
    """The folder of the files: `here`, or llava_test in it."""
    return next((folder for folder in (here, here / DATA_FOLDER) if (folder / QUESTIONS).is_file()), None)


def find_image_folder(data: Path, here: Path) -> Path:
    """The folder of images: images or val2014, in `data` or `here`. Raises ConfigError naming those that it tried."""
    places = list(dict.fromkeys(place / name for place in (data, here) for name in IMAGE_FOLDERS))
    if found := next((place for place in places if place.is_dir()), None):
        return found
    tried = ", ".join(map(str, places))
    raise ConfigError(f"no images: there is no {tried}; give --images, the folder of COCO's val2014 ({IMAGES})")


def image_names(name: str) -> tuple[str, str]:
    """The names that an image has: `name`, and that of LLaVA (`000000441147.jpg`) or of COCO, whichever it is not."""
    return name, name.removeprefix(COCO) if name.startswith(COCO) else COCO + name


def find_image(folder: Path, name: str) -> Path | None:
    """The file of an image under one of its names."""
    return next((folder / one for one in image_names(name) if (folder / one).is_file()), None)


def read_data(folder: Path) -> tuple[list[Item], dict[str, Rule]]:
    """The questions of a folder in LLaVA's files, and the judge's rules. Raises ConfigError naming the file and row."""
    if missing := [name for name in FILES if not (folder / name).exists()]:
        raise ConfigError(f"{folder}: lacks {', '.join(missing)}; they are in {SOURCE}")
    questions = rows_of(folder / QUESTIONS, "question_id", "image", "text", "category")
    answers = {str(row["question_id"]): row["text"] for row in rows_of(folder / REFERENCES, "question_id", "text")}
    shown = {row["image"]: row for row in rows_of(folder / PICTURES, "image", "captions", "instances")}
    items = []
    for row in questions:
        name, image = str(row["question_id"]), row["image"]
        if name not in answers or image not in shown:
            lacking = f"{REFERENCES} has no answer to it" if name not in answers else f"{PICTURES} lacks {image}"
            raise ConfigError(f"{folder / QUESTIONS}: question {name}: {lacking}")
        context = describe(shown[image]["captions"], shown[image]["instances"])
        items.append(Item(name, row["category"], row["text"], image, context, answers[name]))
    if len({item.id for item in items}) < len(items):
        raise ConfigError(f"{folder / QUESTIONS}: a question_id is there twice")
    return items, read_rules(folder / RULES)


def rows_of(path: Path, *keys: str) -> list[dict[str, Any]]:
    """The rows of a file, each with `keys`. Raises ConfigError."""
    rows = read_rows(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise ConfigError(f"{path}: row {number} needs {', '.join(map(repr, keys))}")
    return rows
