"""LLaVA-test from pictures to reviews (paper 4.1, A.2): translate the questions, answer them, translate back, judge.

Every step keeps its rows in a file of the run's folder, each on disk as soon as it is known, and asks only for those
that the file lacks. So a run may be killed at any moment and started again; what the steps were made with stands in
`run.json`, and a run with other settings is another folder's.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xllm.errors import ConfigError, MediaError, XLLMError
from xllm.evaluation.judge import Review, Rule, prompt, run_secret
from xllm.evaluation.llava_files import Item, find_image, image_names, rows_of
from xllm.files import write_atomic, write_jsonl_atomic
from xllm.openai_api import Chat
from xllm.translation import Translator

STEPS = ("questions", "answers", "english", "reviews")
CHINESE = re.compile(r"[\u4e00-\u9fff]")

Row = dict[str, Any]
Work = Callable[[list[str]], Iterator[tuple[str, Row | XLLMError]]]  # keys to rows, in any order
Progress = Callable[[str, int, int], None]  # step, done, of how many


@dataclass(frozen=True)
class Judge:
    """The model behind the endpoint, and how it is asked: `samples` of each question, perhaps in `both_orders`."""

    model: str
    temperature: float = 0.0
    seed: int = 0
    samples: int = 1
    both_orders: bool = False


@dataclass(frozen=True)
class Done:
    """What a step has, by key, and why it lacks the rest."""

    rows: dict[str, Row]
    failures: dict[str, XLLMError]

    @property
    def texts(self) -> dict[str, str]:
        """Texts by question."""
        return {name: row["text"] for name, row in self.rows.items()}


class Run:
    """The folder of one evaluation. Two processes in one folder is one too many: the second raises ConfigError."""

    def __init__(self, folder: Path, items: Sequence[Item], progress: Progress = lambda *_: None):
        """Makes the folder. Raises ConfigError when it cannot be written, is in use, or is of other questions."""
        from filelock import FileLock, Timeout

        self.folder, self.items, self._progress = Path(folder), {item.id: item for item in items}, progress
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / ".lock", timeout=0)
            self._lock.acquire()
        except Timeout:
            raise ConfigError(f"{folder}: another run is writing there; wait for it, or choose another -o") from None
        except OSError as error:
            raise ConfigError(f"{folder}: cannot write there: {error.strerror}; choose another -o") from None
        self._agree("questions", [asdict(item) for item in items])

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_) -> None:
        self._lock.release()

    def questions(self, translator: Callable[[], Translator], by: str | None) -> Done:
        """The questions in Chinese. `translator` is made if one is missing; `by` says who it is.

        Raises ConfigError, as `english` does, when that is nobody.
        """
        self._agree("translator of questions", _somebody(by))
        texts = {name: item.question for name, item in self.items.items()}
        return self._keep("questions", list(texts), _translating(translator, texts))

    def answers(self, asked: Mapping[str, str], model: Callable[[], Any], name: str, images: Path, **options) -> Done:
        """Greedy answers of `model()`, an XLLM, to questions about their images in the folder `images`.

        Raises ConfigError when there is no such folder.
        """
        from xllm.chat import GREEDY, answer_rows
        from xllm.manifest import keys

        if not images.is_dir():
            raise ConfigError(f"{images}: no such folder; --images names that of the images (COCO val2014)")
        self._agree("model", name)

        def work(names: list[str]) -> Iterator[tuple[str, Row | XLLMError]]:
            paths = {one: find_image(images, self.items[one].image) for one in names}
            for one in (one for one in names if paths[one] is None):
                tried = " nor ".join(image_names(self.items[one].image))
                yield one, MediaError(f"{images}: there is neither {tried}")
            found = [one for one in names if paths[one]]
            empty = dict.fromkeys(keys())
            rows = [empty | {"image": [str(paths[one])], "instruction": asked[one]} for one in found]
            for one, outcome in zip(found, answer_rows(model(), rows, GREEDY, **options) if rows else (), strict=True):
                yield one, _text_row(one, outcome)

        return self._keep("answers", list(asked), work)

    def given(self, path: Path) -> Done:
        """Answers of a file with rows of a question_id and a text, also of a part of the questions."""
        rows = rows_of(path, "question_id", "text")
        texts = {str(row["question_id"]): row["text"] for row in rows}
        if unknown := texts.keys() - self.items.keys():
            raise ConfigError(f"{path}: question {min(unknown)} is not in this data")
        self._agree("model", f"answers {_digest(texts)}")
        found = [name for name in self.items if name in texts]
        missing = {name: XLLMError(f"{path} has no answer") for name in self.items.keys() - texts.keys()}
        done = self._keep("answers", found, lambda names: ((n, _text_row(n, texts[n])) for n in names))
        return Done(done.rows, missing)

    def english(self, answers: Mapping[str, str], translator: Callable[[], Translator], by: str | None) -> Done:
        """The answers in English; those without Chinese characters are it already."""
        if any(map(CHINESE.search, answers.values())):
            self._agree("translator of answers", _somebody(by))

        def work(names: list[str]) -> Iterator[tuple[str, Row | XLLMError]]:
            chinese = {name: answers[name] for name in names if CHINESE.search(answers[name])}
            yield from ((name, _text_row(name, answers[name])) for name in names if name not in chinese)
            if chinese:
                yield from _translating(translator, chinese)(list(chinese))

        return self._keep("english", list(answers), work)

    def reviews(
        self, answers: Mapping[str, str], rules: Mapping[str, Rule], endpoint: Callable[[], Any], judge: Judge
    ) -> tuple[list[Review], dict[str, XLLMError]]:
        """What the judge writes about each English answer, and the reviews that are missing and why.

        `endpoint` makes the `Endpoint`. Raises ConfigError when a category has no rule.
        """
        self._agree("judge", asdict(judge))
        secret = run_secret(self.folder / "secret")
        wanted: dict[str, tuple[Chat, Row]] = {}
        for name, text in answers.items():
            for swapped in (False, True)[: 1 + judge.both_orders]:
                made = prompt(self.items[name].case(text), rules, secret, swapped)
                for sample in range(judge.samples):
                    chat = Chat(judge.model, made.messages, judge.temperature, judge.seed, number=sample)
                    row = {"question_id": name, "category": self.items[name].category, "mark": made.mark}
                    key = name + " swapped" * swapped + f" sample {sample}" * (judge.samples > 1)
                    wanted[key] = chat, row | {"swapped": swapped, "sample": sample}

        def work(keys: list[str]) -> Iterator[tuple[str, Row | XLLMError]]:
            server = endpoint()
            for place, reply in server.ask([wanted[key][0] for key in keys]):
                row = wanted[keys[place]][1]
                yield keys[place], reply if isinstance(reply, XLLMError) else row | {"content": reply}
            if refused := server.refused(judge.model):
                self._note("not sent to the judge as asked", refused)

        done = self._keep("reviews", list(wanted), work)
        return [Review(**{k: v for k, v in row.items() if k != "key"}) for row in done.rows.values()], done.failures

    def _agree(self, what: str, value: Any) -> None:
        """Note in `run.json` what a step is made with, or raise ConfigError where it was made with something else."""
        own = _digest(value) if what == "questions" else value
        path, was = self.folder / "run.json", self.made_with.get(what, own)
        if was != own:
            raise ConfigError(f"{path}: the {what} was {was}, not {own}; choose another -o for another run")
        self._note(what, own)

    @property
    def made_with(self) -> dict[str, Any]:
        """What stands in `run.json`."""
        path = self.folder / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _note(self, what: str, value: Any) -> None:
        noted = self.made_with | {what: value}
        write_atomic(self.folder / "run.json", json.dumps(noted, ensure_ascii=False, indent=2) + "\n")

    def _keep(self, step: str, keys: Sequence[str], work: Work) -> Done:
        """The step's rows: those of its file, and the rest through `work`, each kept before it counts."""
        path = self.folder / f"{step}.jsonl"
        rows = {row["key"]: row for row in _whole_lines(path)}
        write_jsonl_atomic(path, rows.values())  # a line that a kill cut off must not spoil the next
        rows = {key: rows[key] for key in keys if key in rows}
        missing, failures = [key for key in keys if key not in rows], {}
        self._progress(step, len(rows), len(keys))
        with path.open("a", encoding="utf-8") as out:
            for key, outcome in work(missing) if missing else ():
                if isinstance(outcome, XLLMError):
                    failures[key] = outcome
                else:
                    rows[key] = {"key": key, **outcome}
                    out.write(json.dumps(rows[key], ensure_ascii=False) + "\n")
                    out.flush()
                    os.fsync(out.fileno())
                self._progress(step, len(rows) + len(failures), len(keys))
        return Done({key: rows[key] for key in keys if key in rows}, failures)


def _whole_lines(path: Path) -> Iterator[Row]:
    """Rows of a file that a killed process may have left with half a line at its end."""
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "key" in row:
            yield row


def _translating(translator: Callable[[], Translator], texts: Mapping[str, str]) -> Work:
    def work(names: list[str]) -> Iterator[tuple[str, Row | XLLMError]]:
        for place, outcome in translator().translate([texts[name] for name in names], names):
            yield names[place], _text_row(names[place], outcome)

    return work


def _somebody(by: str | None) -> str:
    if by is None:
        raise ConfigError("who translates? give --translator, or --judge-model")
    return by


def _text_row(name: str, outcome: str | XLLMError) -> Row | XLLMError:
    return outcome if isinstance(outcome, XLLMError) else {"question_id": name, "text": outcome}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
