"""Lists of addresses that img2dataset has fetched: CC3M, SBU and Wukong, in folders and in tar shards."""

import pickle

import pytest
from raw_corpora import cc3m, converted, die, fetched, killed, sbu, tar, write, wukong

from xllm.corpora import img2dataset
from xllm.corpora.raw import Raw
from xllm.corpora.table import CORPORA
from xllm.errors import XLLMError
from xllm.pictures import load_picture

KEYS = ["000000000", "000000001", "000000002", "000010000", "000010003"]


def shards(raw, source) -> None:
    """The folders 00000, 00001 as 00000.tar, 00001.tar; all else as it is."""
    for path in sorted(source.iterdir()):
        if path.is_dir():
            tar(raw / f"{path.name}.tar", path)
        else:
            write(raw / path.name, path.read_bytes())


@pytest.mark.parametrize("name", ["cc3m", "sbu", "wukong"])
def test_without_a_list_the_rows_are_what_is_there(tmp_path, name):
    fetched(tmp_path / "raw")
    result = converted(name, tmp_path / "raw", tmp_path / "out", "train")
    assert [row["id"] for row in result.rows] == [f"{name}-{key}" for key in KEYS if key != "000000002"]
    assert result.rows[3] == {
        "id": f"{name}-000010003",
        "image": "../raw/00001/000010003.webp",
        "response": "第13张 picture",
        "source": name,
    }
    assert result.dropped == {f"{name}-000000002": "no words"} and result.report.inputs == 5
    shards(tmp_path / "packed", tmp_path / "raw")
    packed = converted(name, tmp_path / "packed", tmp_path / "out1", "train")
    assert packed.contents() == result.contents() and packed.dropped == result.dropped
    assert packed.rows[0]["image"].startswith("../packed/00000.tar:")
    assert load_picture(packed.path(3, "image")).float().mean().round().item() == 130
    assert not (tmp_path / "out1" / "unpacked").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_cc3m(tmp_path, packed):
    raw = cc3m(tmp_path / "raw")
    if packed:
        raw = tmp_path / "packed"
        shards(raw, tmp_path / "raw")
    result = converted("cc3m", raw, tmp_path / "out", "train")
    assert [(row["id"], row["response"]) for row in result.rows] == [
        ("cc3m-train-1", "one"),
        ("cc3m-train-2", "two\twith a tab"),
        ("cc3m-train-4", "again"),
    ]
    assert result.rows[0]["image"] == result.rows[2]["image"] != result.rows[1]["image"]
    assert result.dropped == {
        "cc3m-train-3": "not downloaded",
        "cc3m-train-5": "no words",
        "cc3m-train-6": "broken line",
    }
    assert result.report.inputs == 6 and result.report.failed == {"broken line": 1}
    validation = converted("cc3m", raw, tmp_path / "out", "validation")
    assert [row["id"] for row in validation.rows] == ["cc3m-validation-1"]
    colours = [round(load_picture(r.path(0, "image")).float().mean().item()) for r in (result, validation)]
    assert colours == [0, 130]


def test_cc3m_with_a_header(tmp_path):
    raw = cc3m(tmp_path / "raw")
    path = raw / "Train_GCC-training.tsv"
    path.write_text("caption\turl\n" + path.read_text())
    result = converted("cc3m", raw, tmp_path / "out", "train")
    assert result.report.inputs == 6 and result.rows[0]["id"] == "cc3m-train-2"


def test_sbu(tmp_path):
    result = converted("sbu", sbu(tmp_path / "raw"), tmp_path / "out", "train")
    assert [(row["id"], row["response"]) for row in result.rows] == [("sbu-1", "c"), ("sbu-3", "a")]
    assert result.dropped == {"sbu-2": "not downloaded"}
    (tmp_path / "packed").mkdir()
    (tmp_path / "list").mkdir()
    (tmp_path / "raw" / "sbu-captions-all.json").rename(tmp_path / "list" / "sbu-captions-all.json")
    shards(tmp_path / "packed", tmp_path / "raw")
    tar(tmp_path / "packed" / "sbu-captions-all.tar.gz", tmp_path / "list", mode="w:gz")
    packed = converted("sbu", tmp_path / "packed", tmp_path / "out1", "train")
    assert packed.contents() == result.contents() and packed.dropped == result.dropped


def test_sbu_with_lists_of_different_lengths(tmp_path):
    write(
        sbu(tmp_path / "raw") / "sbu-captions-all.json", '{"image_urls": ["http://a.b/1?x=1", "x"], "captions": ["a"]}'
    )
    with pytest.raises(XLLMError, match="not as SBU captions has it"):
        converted("sbu", tmp_path / "raw", tmp_path / "out", "train")


@pytest.mark.parametrize("packed", [False, True])
def test_wukong(tmp_path, packed):
    raw = wukong(tmp_path / "raw")
    if packed:
        raw = tmp_path / "packed"
        shards(raw, tmp_path / "raw")
    result = converted("wukong", raw, tmp_path / "out", "train")
    assert [(row["id"], row["response"]) for row in result.rows] == [
        ("wukong-0-1", "甲，乙"),
        ("wukong-0-2", 'a "b", c'),
        ("wukong-2-2", "丁"),
        ("wukong-10-1", "上下"),
    ]
    assert result.dropped == {"wukong-2-1": "not downloaded"} and result.report.inputs == 5


def test_wukong_with_odd_lists(tmp_path):
    raw = wukong(tmp_path / "raw")
    lines = (
        "url,caption\r\nhttp://a.b/0?x=1,one\rtwo\r\n\r\nonly\r\na,b,c\r\nhttp://a.b/1?x=1, \r\nhttp://a.b/13?x=1,\xff"
    )
    write(raw / "wukong_100m_0.csv", b"\xef\xbb\xbf" + lines.encode("latin-1"))
    result = converted("wukong", raw, tmp_path / "out", "train")
    assert [row["response"] for row in result.rows] == ["one two", "丁", "上下"]
    assert result.report.failed == {"broken line": 2, "not UTF-8": 1}
    assert result.report.dropped == {"no words": 1, "not downloaded": 1} and result.report.inputs == 8


def test_samples_with_odd_companions(tmp_path):
    """Captions from the txt where the json has none or is none; pickles in the shards are only names."""

    class Evil:
        def __reduce__(self):
            return write, (tmp_path / "evil", "x")

    raw = fetched(tmp_path / "raw")
    shard = raw / "00000"
    for key, json_text in zip(KEYS[:3], ("{broken", "[1]", '{"url": "u", "caption": ""}'), strict=True):
        write(shard / f"{key}.json", json_text)
    write(shard / f"{KEYS[2]}.txt", b"\xff")
    (raw / "00001" / f"{KEYS[3]}.json").unlink()
    (raw / "00001" / f"{KEYS[4]}.json").unlink()
    (raw / "00001" / f"{KEYS[4]}.txt").unlink()
    for suffix in ("pkl", "pickle", "pyd", "cls"):
        write(shard / f"{KEYS[0]}.{suffix}", pickle.dumps(Evil()))
    shards(tmp_path / "packed", raw)
    for number, place in enumerate((raw, tmp_path / "packed")):
        result = converted("cc3m", place, tmp_path / f"out{number}", "train")
        assert [row["response"] for row in result.rows] == ["第0张 picture", "第1张 picture", "第10张 picture"]
        assert result.report.failed == {"not UTF-8": 1} and result.report.dropped == {"no words": 1}
    assert not (tmp_path / "evil").exists()


def test_the_join_is_made_once(tmp_path, monkeypatch):
    """It is on disk: killed after it was made, it is not made again."""
    raw = cc3m(tmp_path / "raw")
    whole = converted("cc3m", raw, tmp_path / "whole", "train")

    def until_killed():
        next(CORPORA["cc3m"].rows(Raw(raw, tmp_path / "out"), "train"))
        die()

    assert killed(until_killed)
    monkeypatch.setattr(img2dataset, "_pictures", lambda raw: pytest.fail("made again"))
    assert converted("cc3m", raw, tmp_path / "out", "train").rows == whole.rows
