"""Rows by seed, dialogues to questions, the instructions of stage 3."""

import json
from collections import Counter

import pytest

from xllm.errors import ConfigError, ManifestError
from xllm.steps import instructions
from xllm.steps.draw import draw, shows_none_of
from xllm.steps.rows import Dropped, read_rows
from xllm.steps.run import run
from xllm.steps.turns import Turns
from xllm.steps.workers import processes


def manifest(folder, name, rows):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / f"{name}.jsonl"


def ids(rows):
    return [row["id"] for row in rows if not isinstance(row, Dropped)]


@pytest.fixture
def many(tmp_path):
    return manifest(tmp_path, "many", ({"id": str(n), "image": f"{n % 100}.png", "response": "天"} for n in range(500)))


def test_a_draw_is_the_seeds_and_in_order(many):
    drawn = ids(draw(many, 50, seed=1))
    assert len(drawn) == 50 and drawn == sorted(drawn, key=int) == ids(draw(many, 50, seed=1))
    assert drawn != ids(draw(many, 50, seed=2))
    assert set(drawn) < set(ids(draw(many, 60, seed=1))), "more is the same and some"
    assert len(ids(draw(many, 900, seed=1))) == 500 and not ids(draw(many, 0, seed=1))
    assert len({int(name) // 100 for name in drawn}) == 5, "from everywhere"
    reasons = Counter(row.reason for row in draw(many, 50, 1) if isinstance(row, Dropped))
    assert reasons == {"not drawn": 450}
    with pytest.raises(ManifestError, match="cannot read"):
        list(draw(many.parent / "none.jsonl", 1, 1))


def test_a_name_that_stands_twice_is_not_two_for_one(tmp_path):
    rows = list(draw(manifest(tmp_path, "same", [{"id": "a"}] * 5), 2, 1))
    assert len(ids(rows)) == 2 and len(rows) == 5


def test_what_another_set_shows_is_not_drawn(many, tmp_path):
    run(lambda: draw(many, 30, 1), tmp_path / "deep" / "first.jsonl", {})
    taken = {
        int(row["image"].rpartition("/")[2][:-4]) for row in map(json.loads, (tmp_path / "deep" / "first.jsonl").open())
    }
    second = list(draw(many, 100, 1, shows_none_of([tmp_path / "deep" / "first.jsonl"])))
    assert len(ids(second)) == 100 and not taken & {int(name) % 100 for name in ids(second)}
    assert Counter(r.reason for r in second if isinstance(r, Dropped))["in another set"] == 5 * len(taken)


def test_names_that_no_file_can_have_are_in_no_set(tmp_path):
    rows = [{"id": "1", "image": "a\0b.png"}, {"id": "2", "image": "\ud800.png"}, {"id": "3", "image": "c.png"}]
    odd = manifest(tmp_path, "odd", rows)
    assert ids(draw(odd, 3, 1, shows_none_of([odd]))) == ["1", "2"]


DIALOGUE = {
    "id": "d",
    "image": "a.png",
    "caption": "一",
    "history": [
        {"instruction": "几个？", "response": "两个"},
        {"instruction": " ", "response": "x"},
        {"instruction": "什么？", "response": ""},
    ],
}


def test_turns_have_what_came_before():
    (made,) = Turns()([DIALOGUE])
    shared = {"image": "a.png", "caption": "一"}
    assert made == [
        {"id": "d-1", **shared, "response": "几个？", "answer": "两个"},
        {"id": "d-3", **shared, "response": "什么？", "history": DIALOGUE["history"][:2]},
    ]
    assert [row["id"] for row in Turns(answered=True)([DIALOGUE])[0]] == ["d-1"]
    assert [row["id"] for row in Turns(answered=False)([DIALOGUE])[0]] == ["d-3"]
    assert Turns()([{"id": "e", "history": []}, {"id": "f"}]) == [Dropped("e", "no turns"), Dropped("f", "no turns")]


@pytest.fixture
def corpora(tmp_path):
    picture, speech, film = {"image": "a.png"}, {"speech": "a.wav"}, {"video": "a.mp4"}
    answer = picture | speech | {"response": "问", "answer": "答", "caption": "图"}
    return {
        "describe": manifest(tmp_path, "d", ({"id": str(n), **picture, "response": "图"} for n in range(100))),
        "recognise": manifest(tmp_path, "r", ({"id": str(n), **speech, "response": "话"} for n in range(100))),
        "answer": manifest(
            tmp_path, "a", ({"id": str(n), **answer} | ({"answer": ""} if n < 60 else {}) for n in range(100))
        ),
        "watch": manifest(tmp_path, "w", ({"id": str(n), **(film if n else {}), "response": "影"} for n in range(100))),
    }


def test_instructions_are_five_to_a_task_and_counted(corpora, tmp_path):
    counts = {"describe": 70, "recognise": 50, "answer": 50, "watch": 99}
    report = run(lambda: instructions.rows(corpora, counts, 1), tmp_path / "x.jsonl", {})
    assert report.inputs == 400 and report.kept == 70 + 50 + 40 + 99
    assert report.dropped == {"not drawn": 80, "no answer": 60, "no video": 1}
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").open()]
    assert len({row["id"] for row in rows}) == len(rows)
    by_task = {name: [row for row in rows if row["id"].startswith(name)] for name in corpora}
    for name, own in by_task.items():
        wordings = Counter(row["instruction"] for row in own)
        assert set(wordings) == set(instructions.TASKS[name].wordings) and len(wordings) == 5
        assert min(wordings.values()) > len(own) / 20
    assert {row["response"] for row in by_task["answer"]} == {"答"}
    assert not any("answer" in row or "caption" in row for row in rows)


def test_seeds_choose_rows_and_wordings(corpora):
    def made(seed):
        return [row for row in instructions.rows(corpora, {"describe": 50}, seed) if not isinstance(row, Dropped)]

    assert made(1) == made(1) != made(2)
    assert sum(task.count for task in instructions.TASKS.values()) == 7500, "the paper's (A.1)"


def test_an_own_instruction_stays(tmp_path):
    asked = ["数一数", "", None]
    rows = [{"id": str(n), "image": "a.png", "instruction": one, "response": "三"} for n, one in enumerate(asked)]
    own, *others = instructions.rows({"describe": manifest(tmp_path, "d", rows)}, {}, 1)
    assert own["instruction"] == "数一数"
    assert {row["instruction"] for row in others} <= set(instructions.TASKS["describe"].wordings)


@pytest.mark.parametrize("answer", [5, ["x"], {}, None, " "])
def test_what_is_no_text_is_no_answer(tmp_path, answer):
    rows = [{"id": "1", "image": "a.png", "speech": "a.wav", "response": "问", "answer": answer}]
    assert list(instructions.rows({"answer": manifest(tmp_path, "a", rows)}, {}, 1)) == [Dropped("1", "no answer")]


def test_a_task_that_is_not_there_is_an_error(corpora):
    for manifests, counts in (({"descripe": corpora["describe"]}, {}), (corpora, {"descripe": 3})):
        with pytest.raises(ConfigError, match="no task 'descripe'; tasks are describe, "):
            list(instructions.rows(manifests, counts, 1))


def test_chunks_and_processes_make_the_same_turns(tmp_path):
    source = manifest(tmp_path, "v", [DIALOGUE | {"id": f"d{n}"} for n in range(20)] + [{"id": "e"}])
    made = []
    for folder, chunk, workers in (("a", 256, 1), ("b", 3, 2)):
        out = tmp_path / folder / "x.jsonl"
        report = run(lambda: read_rows(source), out, {}, Turns(), chunk=chunk, mapper=processes(workers))
        assert (report.inputs, report.kept, report.rows, report.dropped) == (21, 20, 40, {"no turns": 1})
        made.append(out.read_bytes())
    assert made[0] == made[1]
