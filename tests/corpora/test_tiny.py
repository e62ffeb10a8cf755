"""The tiny corpora: tars unpacked with care, manifests complete, held-out sentences nowhere in the text."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from xllm.corpora import tiny_speech, tiny_text
from xllm.errors import XLLMError
from xllm.manifest import iterate_manifest

EXAMPLE = next((Path(__file__).parents[2] / "examples").glob("*.opus"))


@pytest.fixture
def corpus(tmp_path):
    """Two training sentences and one of each other split."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = []
    for split in tiny_speech.SPLITS:
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            for number in range(2 if split == "train" else 1):
                name = f"{number}-{split}"
                text = {"train": ["今天天气很好。", "你好吗？"][number]}.get(split, "他们在学习中文。")
                rows.append({"id": name, "split": split, "text": text, "voice": {}, "speed": 1.0, "duration": 2.0})
                data = EXAMPLE.read_bytes()
                for member in (f"{name}.opus", "../../evil.opus.sh"):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def test_manifests_point_at_audio_with_readings(corpus, tmp_path):
    counts = tiny_speech.prepare(corpus, tmp_path / "out")
    assert counts == {"train": 2, "dev": 1, "dev-seen": 1, "test": 1, "test-seen": 1}
    samples = list(iterate_manifest(tmp_path / "out" / "train.jsonl"))
    assert [s["reading"] for s in samples] == ["jin1 tian1 tian1 qi4 hen3 hao3", "ni3 hao3 ma5"]
    assert all(Path(s["speech"]).read_bytes() == EXAMPLE.read_bytes() for s in samples)
    assert not list(tmp_path.rglob("*.sh"))


def test_a_missing_tar_is_one_line(corpus, tmp_path):
    (corpus / "dev.tar").unlink()
    with pytest.raises(XLLMError, match="dev.tar"):
        tiny_speech.prepare(corpus, tmp_path / "out")


@pytest.fixture
def wheels(tmp_path):
    """Wheels with the layout of the real ones."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "chatterbot_corpus-1.2.3-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "chatterbot_corpus/data/chinese/a.yml", "conversations:\n- - 你好\n  - 他们在学习中文吗\n  - OK啊\n"
        )
        wheel.writestr("chatterbot_corpus/data/english/a.yml", "conversations:\n- - hello\n")
    with zipfile.ZipFile(folder / "jionlp-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in (
            ("chinese_idiom.txt", "一心一意\t90\n一丁不识\t1\n"),
            ("xiehouyu.txt", "外甥打灯笼\t照旧\n"),
            ("word_distribution.json", '["天气", 90]\n["x1", 80]\n["地铁", 9]\n'),
        ):
            inner = io.BytesIO()
            with zipfile.ZipFile(inner, "w") as archive:
                archive.writestr(name, text)
            wheel.writestr(f"jionlp/dictionary/{name.split('.')[0]}.zip", inner.getvalue())
    return folder


def test_text_of_all_sources_without_held_out_sentences(wheels, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_text, "DEV_ROWS", 1)
    monkeypatch.setattr(tiny_text, "DRAWN_WORDS", 6)
    counts = tiny_text.prepare(wheels, tmp_path / "out", ["今天天气很好。", "今天天气很好。"], ["他们在学习中文。"])
    assert counts["held out"] == 1 and counts["hsk"] == counts["chat"] == counts["idiom"] == counts["saying"] == 1
    rows = [
        json.loads(line)
        for name in ("text", "text-dev", "words")
        for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()
    ]
    texts = {row["response"] for row in rows}
    assert {"今天天气很好。", "你好", "一心一意", "外甥打灯笼，照旧"} <= texts
    assert not any("学习中文" in text or "一丁不识" in text or "x1" in text for text in texts)
    assert all(
        len(row["reading"].split()) == len(row["response"].translate({ord(c): None for c in "。，"})) for row in rows
    )


def test_tokenizer_keeps_every_character_and_syllable_apart(wheels, tmp_path):
    from transformers import PreTrainedTokenizerFast

    tiny_text.write_tokenizer(tmp_path / "t", ["你", "好"], ["ni3", "hao3"])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "t")
    text = "<Speech>[ni3][hao3]</Speech>Question: 你 \n Answer:好"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "<Speech>",
        "[ni3]",
        "[hao3]",
        "</Speech>",
        "Question:",
        " ",
        "你",
        " ",
        "\n",
        " ",
        "Answer:",
        "好",
    ]
    assert tokenizer.decode(ids) == text


def test_missing_wheels_say_how_to_get_them(tmp_path):
    with pytest.raises(XLLMError, match="pip download --no-deps -d .* chatterbot-corpus"):
        tiny_text.prepare(tmp_path, tmp_path / "out", ["今天"], [])
