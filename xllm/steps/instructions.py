"""The multimodal instructions of stage 3 (paper 3.2.3, A.1): four tasks from four corpora, five wordings each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xllm.errors import ConfigError
from xllm.steps.draw import draw, order
from xllm.steps.rows import Dropped
from xllm.steps.run import Row


@dataclass(frozen=True)
class Task:
    """What is asked in five ways, how many rows the paper has of it, and why a row cannot serve.

    `answer` is the key of the row whose text is the response.
    """

    wordings: tuple[str, ...]
    count: int
    media: tuple[str, ...]
    answer: str = "response"

    def unfit(self, row: Row) -> str | None:
        """Why a row is none of this task's, or None."""
        lacking = next((name for name in self.media if not row.get(name)), None)
        words = row.get(self.answer)
        if lacking is None and not (isinstance(words, str) and words.strip()):
            lacking = self.answer
        return f"no {lacking}" if lacking else None

    def ask(self, row: Row, seed: int) -> Row:
        """The row with one of the wordings, which the seed and its id choose; one that has its own keeps it."""
        wording = self.wordings[int(order(seed, row["id"]), 16) % len(self.wordings)]
        kept = {key: value for key, value in row.items() if key not in ("answer", "caption")}
        return kept | {"instruction": row.get("instruction") or wording, "response": row[self.answer]}


TASKS = {
    "describe": Task(
        (
            "请详细描述这张图片。",
            "请仔细看图，说说图中的内容。",
            "这张图片里有什么？请详细说明。",
            "请用几句话描述你看到的画面。",
            "请介绍一下这张图片。",
        ),
        3500,
        ("image",),
    ),
    "recognise": Task(
        (
            "请忠实地识别语音。",
            "请把这段语音转写成文字。",
            "这段语音说了什么？请逐字写下来。",
            "请听录音并写出其中的话。",
            "请写出你听到的内容。",
        ),
        2000,
        ("speech",),
    ),
    "answer": Task(
        (
            "请根据图片回答语音中的问题。",
            "请听语音提问，并结合图片作答。",
            "语音里问了一个关于图片的问题，请回答。",
            "请看图回答我说的问题。",
            "结合画面，回答录音中的提问。",
        ),
        1000,
        ("image", "speech"),
        "answer",
    ),
    "watch": Task(
        (
            "请描述这段视频。",
            "视频里发生了什么？",
            "请说说你在视频中看到了什么。",
            "请按顺序讲述视频中的内容。",
            "这段视频讲了什么？请详细说明。",
        ),
        1000,
        ("video",),
    ),
}


def rows(manifests: Mapping[str, Path], counts: Mapping[str, int], seed: int) -> Iterator[Row | Dropped]:
    """Rows drawn from a manifest for each task, with instructions; ids begin with the task's name.

    `counts` are in place of the paper's. Raises ManifestError, and ConfigError for a task that is not there.
    """
    if unknown := {*manifests, *counts}.difference(TASKS):
        raise ConfigError(f"no task {min(unknown)!r}; tasks are {', '.join(TASKS)}")
    for name, manifest in manifests.items():
        task = TASKS[name]
        for row in draw(manifest, counts.get(name, task.count), seed, task.unfit):
            if isinstance(row, Dropped):
                yield row
            else:
                asked = task.ask(row, seed)
                yield asked | {"id": f"{name}-{row['id']}"}
