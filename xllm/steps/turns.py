"""Dialogues to questions: one row for each turn, with the picture and what came before."""

from pydantic import Field

from xllm.config import Config
from xllm.steps.rows import Dropped
from xllm.steps.run import Made, Row


class Turns(Config):
    """VisDial's rows to VSDial-CN's (paper A.1): the question is what will be spoken, its answer goes along."""

    answered: bool | None = Field(None, description="only turns with an answer, or only those without; none: all")

    def __call__(self, rows: list[Row]) -> Made:
        return [self._turns(row) or Dropped(row["id"], "no turns") for row in rows]

    def _turns(self, row: Row) -> list[Row]:
        shared = {key: value for key, value in row.items() if key not in ("id", "history")}
        made, turns = [], row.get("history") or []
        for number, turn in enumerate(turns, start=1):
            question, answer = turn["instruction"].strip(), turn["response"].strip()
            if not question or self.answered not in (None, bool(answer)):
                continue
            made.append(
                {"id": f"{row['id']}-{number}", **shared, "response": question}
                | ({"answer": answer} if answer else {})
                | ({"history": turns[: number - 1]} if number > 1 else {})
            )
        return made
