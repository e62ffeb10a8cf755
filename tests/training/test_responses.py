"""What stages 2 and 3 feed the model: the instruction of the row's task, and the response as it is written."""

import json
import shutil

import pytest
import torch

from xllm.config import load_recipe
from xllm.instructions import INSTRUCTIONS
from xllm.model import XLLM
from xllm.training.cache import Cache
from xllm.training.responses import ResponseExamples

WRITTEN = "天地的人，是…。\nIt has 9,000 rooms!"
HISTORY = [{"instruction": "几个人？", "response": "两个"}]


@pytest.fixture
def rows(world):
    """Rows without instructions, as converters write them: of VSDial-CN, of a caption, of a sentence."""
    shutil.copy(world / "1.wav", world / "q.wav")
    return [
        {"id": "question", "speech": "q.wav", "image": "1.png", "caption": "天", "response": WRITTEN, "answer": "是"}
        | {"history": HISTORY},
        {"id": "caption", "image": "2.png", "response": WRITTEN},
        {"id": "clip", "video": "1.gif", "response": WRITTEN},
        {"id": "sentence", "speech": "2.wav", "response": WRITTEN},
        {"id": "asked", "speech": "2.wav", "image": "2.png", "instruction": "天？", "response": "天！"}
        | {"history": HISTORY},
    ]


@pytest.fixture
def examples(world, rows):
    """Those rows as the examples of a stage."""
    (world / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    torch.manual_seed(0)
    model = XLLM(load_recipe(world / "recipe.yaml").model, ["llm", "speech", "image", "video"]).eval()
    keys = {"vision": "v", "recognizer": "r"}

    def of(*about, varied=False):
        return ResponseExamples(
            (world / "rows.jsonl",), model, about, 1, False, 0, Cache(world / "c"), keys, varied=varied
        )

    return of


def usable(examples):
    """id -> example, of those that can be trained on, and id -> reason of the others."""
    reasons = {examples.name(i): examples.unusable(i) for i in range(len(examples))}
    loaded = {
        examples.name(i): examples.load(i, None) for i in range(len(examples)) if reasons[examples.name(i)] is None
    }
    return loaded, {name: reason for name, reason in reasons.items() if reason}


@pytest.mark.parametrize(
    ("about", "task", "names"),
    [("speech", "asr", {"question", "sentence"}), ("image", "image", {"caption"}), ("video", "video", {"clip"})],
)
def test_a_stage_uses_of_a_row_what_it_is_about(examples, rows, about, task, names):
    loaded, left = usable(examples(about))
    assert set(loaded) == names and set(left) == {row["id"] for row in rows} - names
    for example in loaded.values():
        assert example["instruction"] == INSTRUCTIONS[task][0] and example["history"] == []
        assert set(example["tokens"]) | set(example["features"]) == {about}
        assert example["response"] == WRITTEN


def test_stage_three_takes_all_of_a_row_and_varies_the_wording(examples):
    loaded, left = usable(examples("image", "video", "speech"))
    assert not left
    tasks = {"question": "masr", "caption": "image", "clip": "video", "sentence": "asr"}
    assert {name: loaded[name]["instruction"] for name in tasks} == {n: INSTRUCTIONS[t][0] for n, t in tasks.items()}
    assert loaded["asked"]["history"] == HISTORY and loaded["asked"]["instruction"] == "天？"
    assert {*loaded["asked"]["tokens"], *loaded["asked"]["features"]} == {"image", "speech"}
    varied = examples("image", "video", "speech", varied=True)
    drawn = {varied.load(3, torch.Generator().manual_seed(seed))["instruction"] for seed in range(60)}
    assert drawn == set(INSTRUCTIONS["asr"])
    assert varied.load(4, torch.Generator().manual_seed(1))["instruction"] == "天？"


def test_only_what_is_to_be_written_stands_for_speech_in_words(world, examples):
    with (world / "rows.jsonl").open("a", encoding="utf-8") as rows:
        quiz = {"id": "quiz", "speech": "2.wav", "instruction": INSTRUCTIONS["spoken"][0], "response": "天"}
        rows.write("\n" + json.dumps(quiz))
    loaded, _ = usable(examples("speech"))
    assert loaded["sentence"]["told"] == {"speech": "天地的人是ithas9000rooms"} and loaded["quiz"]["told"] == {}


def test_the_llm_learns_to_say_what_is_written(examples):
    """Punctuation, spaces, line breaks and case are in the targets, and nothing else is."""
    stage = examples("speech")
    batch = stage.collate([stage.load(0, None)])
    model = stage.model
    targets = []
    model.llm.answer_loss = lambda embeds, mask, ids: targets.append(ids) or (torch.zeros(()), torch.zeros(()))
    model.response_loss(**batch)
    ids = [token for token in targets[0].flatten().tolist() if token >= 0]
    assert ids == model.prompt.answer(WRITTEN)
    written = model.llm.tokenizer.decode(ids, skip_special_tokens=True)
    unknown = set(WRITTEN) - set(model.llm.tokenizer.get_vocab())
    assert written == "".join(c for c in WRITTEN if c not in unknown) and {"，", "\n", " ", "9", "I", "!"} <= set(
        written
    )


def test_a_response_of_signs_alone_is_one_and_of_blanks_is_none(world, examples):
    rows = [{"id": name, "image": "1.png", "response": text} for name, text in (("signs", "？"), ("blank", " \n"))]
    (world / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded, left = usable(examples("image"))
    assert set(loaded) == {"signs"} and left == {"blank": "no response"}
