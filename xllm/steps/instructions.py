"""The multimodal instructions of stage 3 (paper 3.2.3, A.1): four tasks from four corpora, five wordings each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xllm.errors import ConfigError
from xllm.instructions import INSTRUCTIONS
from xllm.modalities import MODALITIES
from xllm.steps.draw import draw, order
from xllm.steps.rows import Dropped
from xllm.steps.run import Row


@dataclass(frozen=True)
class Task:
    """What is asked, of which media, how many rows the paper has of it, and why a row cannot serve.

    `answer` is the key of the row whose text is the response; only a dialogue has earlier turns.
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
        """The task's part of the row, with one of the wordings, which the seed and its id choose.

        A row that has its own instruction keeps it, and all of its media and turns.
        """
        own = row.get("instruction")
        wording = self.wordings[int(order(seed, row["id"]), 16) % len(self.wordings)]
        left = {"answer", "caption"}
        if not own:
            left |= set(MODALITIES).difference(self.media) | (set() if self.answer == "answer" else {"history"})
        kept = {key: value for key, value in row.items() if key not in left}
        return kept | {"instruction": own or wording, "response": row[self.answer]}


TASKS = {
    "describe": Task(INSTRUCTIONS["image"], 3500, ("image",)),
    "recognise": Task(INSTRUCTIONS["asr"], 2000, ("speech",)),
    "answer": Task(INSTRUCTIONS["dialogue"], 1000, ("image", "speech"), "answer"),
    "watch": Task(INSTRUCTIONS["video"], 1000, ("video",)),
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
