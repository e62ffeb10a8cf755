"""Error rates counted by hand, their intervals, the comparison of two runs, and a run over a manifest."""

import json

import numpy as np
import pytest
import torch
from media_files import tone, write_audio

from xllm.errors import ConfigError, ManifestError
from xllm.evaluation.recognition import (
    aligned,
    difference,
    read_references,
    read_scores,
    score,
    summarize,
    transcribe_manifest,
    worst,
)


@pytest.mark.parametrize(
    "reference, hypothesis, sdi",
    [
        ("你好，世界！", "你好世界", (0, 0, 0)),
        ("ＡＢＣ １２", "abc12", (0, 0, 0)),
        ("你好", "我好", (1, 0, 0)),
        ("你好吗", "你吗", (0, 1, 0)),
        ("你好", "你们好", (0, 0, 1)),
        ("三", "3", (1, 0, 0)),
        ("一二三四五六七", "八二三五六七九", (1, 1, 1)),
        ("", "嗯", (0, 0, 1)),
        ("", "", (0, 0, 0)),
        ("。", "", (0, 0, 0)),
        ("你好", "", (0, 2, 0)),
    ],
)
def test_errors_by_hand(reference, hypothesis, sdi):
    s = score("x", "x.wav", reference, hypothesis)
    assert (s.substitutions, s.deletions, s.insertions) == sdi


def samples(errors):
    return [score(str(i), "", "一二三四五", "一二三四五"[: 5 - n]) for i, n in enumerate(errors)]


def test_pooled_rate_and_interval():
    summary = summarize(samples([0, 1, 0, 2, 0, 0, 1, 0]))
    assert summary.cer == 10.0 and summary.deletions == 4 and summary.characters == 40
    assert summary.low < summary.cer < summary.high
    assert summary.wrong_utterances == 37.5
    assert summarize(samples([0, 1, 0, 2, 0, 0, 1, 0])) == summary, "the same samples, the same interval"
    assert summarize(samples([1] * 9)).low == summarize(samples([1] * 9)).high == 20.0
    with pytest.raises(ValueError, match="no samples"):
        summarize([])


def test_rate_pools_characters_and_counts_insertions_into_nothing():
    pooled = summarize([score("long", "", "一二三四五六七八九", "一二三四五六七八九"), score("short", "", "一", "二")])
    assert pooled.cer == 10.0, "not the mean of 0% and 100%"
    with_empty = summarize([score("a", "", "一二三四", "一二三四"), score("b", "", "", "嗯")])
    assert (with_empty.cer, with_empty.insertions, with_empty.characters) == (25.0, 1, 4)


def test_interval_is_the_bootstrap_of_all_draws_at_once():
    errors = [0, 1, 0, 2, 0, 0, 1, 0]
    draws = np.random.default_rng(0).integers(0, len(errors), (2000, len(errors)))
    expected = np.percentile(100 * np.array(errors)[draws].sum(1) / (5 * len(errors)), [2.5, 97.5]).round(2)
    summary = summarize(samples(errors))
    assert [summary.low, summary.high] == expected.tolist()


def test_difference_is_paired_by_id():
    a, b = samples([1, 0, 2, 0]), samples([0, 0, 1, 0])
    gap = difference(a, list(reversed(b)))
    assert gap.points == -10.0 and gap.low <= gap.points <= gap.high <= 0 and gap.utterances == 4
    assert difference(a, b[:1]).points == -20.0 and difference(a, b[:1]).utterances == 1
    assert difference(a, a) == difference(b, b) and difference(a, a).high == 0.0
    assert difference(a, [score("other", "", "一", "一")]) is None
    assert difference(a, [score("0", "", "一二三", "")]) is None, "the reference was edited in between"


def test_difference_of_repeated_ids_counts_every_sample():
    a = [score("x", "", text, said) for text, said in [("一二", "一二"), ("一二", "一"), ("三四五六", "三四五六")]]
    b = [score("x", "", text, "") for text in ("一二", "一二", "三四五六")]
    gap = difference(a, b)
    assert gap.utterances == 3 and gap.points == summarize(b).cer - summarize(a).cer == 87.5


def test_worst_come_first_and_right_ones_not_at_all():
    assert [s.id for s in worst(samples([0, 1, 3, 2]), 2)] == ["2", "3"]
    assert [s.id for s in worst([score("few", "", "一", ""), score("many", "", "一二", "")])] == ["many", "few"]
    assert len(worst(samples([1] * 12))) == 10


def test_alignment_marks_errors_column_by_column():
    def marked(reference, hypothesis):
        return aligned(score("x", "", reference, hypothesis))

    assert marked("今天天气好", "今天气很好") == ("今天[天气]好", "今天[气很]好")
    assert marked("你好吗", "你吗") == ("你[好]吗", "你[＿]吗")
    assert marked("你", "") == ("[你]", "[＿]")
    assert marked("", "嗯a") == ("[＿_]", "[嗯a]")
    assert marked("有三个", "有3个") == ("有[三]个", "有[3 ]个")
    assert marked("对", "对") == ("对", "对")


def test_references_of_a_manifest_and_its_broken_lines(tmp_path):
    rows = [
        {"id": "a", "speech": "a.wav", "response": "甲\u2028乙"},  # a line separator is no end of a JSON line
        {"id": "none", "response": "甲"},
        {"speech": "sub/b.wav", "response": ""},
    ]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\n".join([*lines, b"", b"{broken", b'{"id": "\xff"}']))
    utterances, failures = read_references(path)
    assert [(u.id, u.speech, u.reference) for u in utterances] == [
        ("a", str(tmp_path / "a.wav"), "甲\u2028乙"),
        (f"{path}:3", str(tmp_path / "sub" / "b.wav"), ""),
    ]
    assert [failure.split(": ")[0] for failure in failures] == [f"{path}:{n}" for n in (2, 5, 6)]
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, message in [("empty.jsonl", "no samples"), ("none.jsonl", "No such file"), (".", "Is a directory")]:
        with pytest.raises(ManifestError, match=message):
            read_references(tmp_path / name)


class Deaf:
    """A model that hears nothing."""

    device = torch.device("cpu")

    def transcribe(self, waves, engine, sights, batch_size):
        raise AssertionError("there is no speech in a silent file")


def test_run_over_a_manifest_keeps_order_and_sets_failures_apart(tmp_path):
    write_audio(tmp_path / "a.wav", tone(1.0, level=0.0))
    write_audio(tmp_path / "b.wav", tone(0.5, level=0.0))
    names = ["a", "gone", "b"]
    (tmp_path / "m.jsonl").write_text(
        "".join(json.dumps({"id": n, "speech": f"{n}.wav", "response": "一二"}) + "\n" for n in names)
    )
    seen = []
    run = transcribe_manifest(read_references(tmp_path / "m.jsonl")[0], Deaf(), "cif", 2, lambda: seen.append(1))
    assert len(seen) == 3 and run.real_time_factor > 0
    assert [(s.id, s.deletions, s.duration) for s in run.scores] == [("a", 2, 1.0), ("b", 2, 0.5)]
    assert list(run.failures) == [1] and "gone.wav" in run.failures[1]


def test_scores_read_back_as_written_and_nothing_else_is_read(tmp_path):
    path = tmp_path / "asr-cif.jsonl"
    path.write_text("".join(json.dumps(s.as_dict()) + "\n" for s in samples([1, 0])))
    assert read_scores(path) == samples([1, 0])
    for content in (b"[1]\n", b"{}\n", b"{broken\n", b"\xff\xfe\n"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="not written by"):
            read_scores(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_scores(tmp_path / "none.jsonl")
