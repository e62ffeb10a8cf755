"""The table of corpora, and what holds of every converter."""

import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import raw_corpora
from raw_corpora import coco, converted, die, killed, tar, write

from xllm.corpora.corpus import convert
from xllm.corpora.raw import Raw
from xllm.corpora.table import CORPORA
from xllm.errors import ConfigError, XLLMError
from xllm.steps.run import run

LIGHT = """
import sys
from xllm.corpora.table import CORPORA
print(*{"torch", "numpy", "datasets", "pydantic", "transformers", "ijson", "av", "PIL"} & set(sys.modules))
"""


def maker(name):
    """What makes that corpus in miniature."""
    return getattr(raw_corpora, {"vg": "visual_genome"}.get(name, name.replace("ll-", "ll").replace("-", "_")))


def test_the_table():
    assert list(CORPORA) == [
        *("aishell-1", "aishell-2", "visdial", "cc3m", "coco", "vg", "flickr30k", "flickr30k-cn", "sbu"),
        *("ai-challenger", "wukong", "msr-vtt", "activitynet", "minigpt4", "llava"),
    ]
    for name, corpus in CORPORA.items():
        assert corpus.name == name and corpus.splits and corpus.where.startswith("https://")
        assert all([corpus.title, corpus.size, corpus.licence, corpus.used, corpus.layout])


def test_the_table_is_light():
    assert subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize("name", CORPORA)
def test_splits_that_are_there(tmp_path, name):
    maker(name)(tmp_path / "raw")
    corpus = CORPORA[name]
    there = {
        "coco": ["train2014", "val2014"],
        "flickr30k-cn": ["train", "test"],
        "llava": ["all", "detail"],
    }.get(name, list(corpus.splits))
    with Raw(tmp_path / "raw", tmp_path / "out") as raw:
        assert corpus.splits_in(raw) == there
        assert corpus.splits_in(raw, there[-1:]) == there[-1:]
        with pytest.raises(ConfigError, match=f"{name} has no split 'dev9'; it has {there[0]}"):
            corpus.splits_in(raw, [there[0], "dev9"])


@pytest.mark.parametrize("name", CORPORA)
def test_nothing_there_is_told(tmp_path, name):
    write(tmp_path / "raw" / "readme.txt", "nothing")
    corpus = CORPORA[name]
    with Raw(tmp_path / "raw", tmp_path / "out") as raw:
        for split in {*corpus.splits_in(raw), *corpus.splits}:
            with pytest.raises(XLLMError, match="raw: holds no "):
                convert(corpus, raw, split)
            assert not (tmp_path / "out" / f"{split}.jsonl").exists()


def test_what_is_no_text_has_no_words_and_broken_entries_are_told(tmp_path):
    raw = coco(tmp_path / "raw")
    path = raw / "annotations" / "captions_train2014.json"
    good = path.read_text()
    path.write_text(good.replace('"A dog 0"', "null").replace('"A dog 1"', '["A dog"]'))
    result = converted("coco", raw, tmp_path / "out", "train2014")
    assert result.dropped == {"coco-100": "no words", "coco-101": "no words", "coco-99": "no such image"}
    path.write_text(good.replace('"caption"', '"text"', 1))
    with pytest.raises(XLLMError, match=r"something in it is not as MSCOCO captions has it \(KeyError: 'caption'\)"):
        converted("coco", raw, tmp_path / "other", "train2014")
    path.write_text(good[:-20])
    with pytest.raises(XLLMError, match="captions_train2014.json: damaged JSON"):
        converted("coco", raw, tmp_path / "third", "train2014")


def test_limit(tmp_path):
    assert converted("coco", coco(tmp_path / "raw"), tmp_path / "out", "train2014", limit=2).report.inputs == 2


@pytest.mark.parametrize("name", ["aishell-2", "cc3m", "flickr30k-cn"])
def test_killed_after_each_row_and_begun_again_is_uninterrupted(tmp_path, monkeypatch, name):
    """Packed corpora, whose index is kept, or lost."""
    tar(tmp_path / "raw" / "all.tgz", maker(name)(tmp_path / "source"), mode="w:gz")
    whole = converted(name, tmp_path / "raw", tmp_path / "whole", "train")
    monkeypatch.setattr("xllm.steps.run.COMMIT", 0.0)
    monkeypatch.setattr("xllm.corpora.corpus.run", partial(run, chunk=1))

    def until_killed():
        convert(CORPORA[name], Raw(tmp_path / "raw", tmp_path / "cut"), "train", progress=lambda report: die())

    kills = 0
    while killed(until_killed):
        kills += 1
        assert (tmp_path / "cut" / ".index.sqlite").exists() and not (tmp_path / "cut" / "train.jsonl").exists()
        if kills % 2:
            Raw(tmp_path / "raw", tmp_path / "cut").close()
    assert kills == whole.report.inputs
    converted(name, tmp_path / "raw", tmp_path / "cut", "train")
    assert raw_corpora.tree(tmp_path / "cut") == raw_corpora.tree(tmp_path / "whole")


def test_a_corpus_whose_reader_is_wrong_does_not_hide_it(tmp_path):
    def read(raw, split):
        yield {"id": "1", "response": "x"}
        raise KeyError("gone")

    coco(tmp_path / "raw")
    with Raw(tmp_path / "raw", tmp_path / "out") as raw, pytest.raises(XLLMError, match="KeyError: 'gone'") as told:
        list(replace(CORPORA["coco"], read=read).rows(raw, "train2014"))
    assert isinstance(told.value.__cause__, KeyError)
