"""The scripts of recipes/base that make its data, on data sets of a few rows."""

import io
import json
import lzma
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from xllm.instructions import INSTRUCTIONS
from xllm.manifest import iterate_manifest
from xllm.media import load_audio


@pytest.fixture
def data(tmp_path) -> Path:
    """Four data sets of speech, a recording for each split and one of a syllable, and two files of text."""
    folder = tmp_path / "data"
    rows = [{"id": split, "split": split, "text": "你好。", "duration": 1.5} for split in ("train", "dev", "test")]
    rows.append({"id": "ba1", "split": "train", "kind": "syllable", "text": "ba1", "duration": 0.3})
    for name in ("tiny_speech", "voices", "real_sentences", "real_words"):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for split in ("train", "dev", "test"):
            with tarfile.open(folder / name / f"{split}.tar", "w") as tar:
                info = tarfile.TarInfo(f"{split}.opus")
                info.size = 4
                tar.addfile(info, io.BytesIO(b"OggS"))
    (folder / "zh_text").mkdir()
    for name, text in {"tatoeba": "我很好。\n好吗？", "crosswoz": "我好吗？\n你很好。\n馕。"}.items():
        (folder / "zh_text" / f"{name}.txt.xz").write_bytes(lzma.compress(text.encode()))
    return folder


def run(module, monkeypatch, *arguments) -> None:
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_speech_and_text_become_manifests_and_units(script, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(script("speech"), "UNITS", 36 + 4)
    run(script("speech"), monkeypatch, data, out)
    (row,) = iterate_manifest(out / "real_words-train.jsonl")
    assert (row["id"], row["response"], row["reading"], row["duration"]) == ("train", "你好。", "ni3 hao3", 1.5)
    assert Path(row["speech"]).read_bytes() == b"OggS"
    units = (out / "tokenizer/units.txt").read_text(encoding="utf-8").split()
    assert units[:10] == list("0123456789") and set(units[36:38]) == set("你好")  # those of speech come first
    assert "units lack 2 characters of the text" in capsys.readouterr().out
    assert (out / "READY").exists()

    (out / "tokenizer/units.txt").write_text("\n".join("你我很好吗"), encoding="utf-8")
    run(script("text"), monkeypatch, data, out)
    assert "left out for characters outside the units: 1 sentences; {'crosswoz': 1}" in capsys.readouterr().out
    rows = [row for path in out.glob("text-*.jsonl") for row in iterate_manifest(path)]
    assert {row["response"] for row in rows} == {"我很好。", "好吗？", "我好吗？", "你很好。"}
    (turn,) = (row for path in out.glob("dialogues-*.jsonl") for row in iterate_manifest(path))
    assert (turn["instruction"], turn["response"], turn["history"]) == ("我好吗？", "你很好。", [])


def test_dialogues_keep_what_was_said_before_and_refuse_what_answers_something_else(script):
    text = script("text")
    lines = [
        "你好，几点开门？",
        "八点开门。",
        "门票多少钱？",
        "不要钱。",
        "电话是多少？",
        "好的，谢谢。",
        "可以吗？",
        "可以。",
    ]
    turns = list(text.dialogues("crosswoz", lines))
    assert [turn["instruction"] for turn in turns] == ["你好，几点开门？", "门票多少钱？", "可以吗？"]
    assert [len(turn["history"]) for turn in turns] == [0, 1, 0]
    assert not text.answers("smilechat", "你怎么了？", "我很难过。")
    assert text.answers("smilechat", "我怎么办？", "你可以试试。")


def test_spliced_sentences_take_characters_of_several_readings_from_their_own_words(script):
    spliced = script("spliced")
    sure = set("我们去学校里吃饭")
    own = {("wo3", "men5"): ["a"], ("xue2", "xiao4"): ["b"], ("chi1", "fan4"): ["c"], ("qu4",): ["d"]}
    script_of = spliced.script
    assert script_of("我们去学校。", sure, own, {}) is None  # five characters are too short
    assert script_of("我们，去学校吃饭", sure, own, {}) == [
        [("wo3", "men5")],
        [("qu4",), ("xue2", "xiao4"), ("chi1", "fan4")],
    ]
    assert script_of("我们，去学校吃饭", sure - {"校"}, own, {}) is None  # jiao4, too
    assert script_of("我们去学校吃饭", sure, {k: v for k, v in own.items() if "qu4" not in k}, {}) is None
    far = {k: own[k] for k in own if "wo3" not in k}
    assert script_of("我们去学校吃饭", sure, far, {("wo3", "men5"): ["e"]}) is None  # two of seven in another voice


def test_recordings_are_joined_at_the_pace_asked_for(script):
    spliced = script("spliced")
    wave = np.sin(np.arange(16_000) / 20).astype("f4")
    assert abs(len(spliced.faster(wave, 1.6)) - 10_000) < 800
    both = spliced.joined([wave, wave])
    assert len(both) == 32_000 - 160 and both[0] == 0 and both[-1] == 0


def test_jobs_for_voices_are_new_sentences_without_the_test_voices(script, data):
    voices = script("voices")
    said = [{"text": "我好吗", "voice": {"zf_xiaobei": 0.5, "am_adam": 0.5}}, {"text": "是", "voice": {"zf_xiaoyi": 1}}]
    jobs = voices.more_jobs(data, said, 5)
    assert [job["text"] for job in jobs] == []
    text = lzma.compress("我很好我很好。\n我好吗？".encode())
    (data / "zh_text/tatoeba.txt.xz").write_bytes(text)
    (job,) = voices.more_jobs(data, said, 5)
    assert job["text"] == "我很好我很好。" and set(job["voice"]) == {"zf_xiaobei", "am_adam"}
    assert sum(job["voice"].values()) == pytest.approx(1)


def test_told_names_are_those_of_images_and_words_of_recordings(script, tmp_path, monkeypatch):
    told = script("told")
    image = {"image": "a.jpg", "told": {"image": "手风琴"}}
    rows = {
        "photos": [
            image | {"id": "1", "response": "手风琴"},
            {"id": "2", "image": "a.jpg", "response": "一架手风琴。"},
        ],
        "emoji": [{"id": "3", "image": "b.png", "response": "月亮", "told": {"image": "月亮"}}],
        "standins": [],
        "real_words": [
            {"id": str(i), "response": word} for i, word in enumerate(["你好", "月亮", "一", "北京", "你好"])
        ],
    }
    for name, values in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in values)
        (tmp_path / f"{name}-train.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "units.txt").write_text("天\n地\na\n", encoding="utf-8")
    monkeypatch.setattr(told, "INVENTED", 20)
    monkeypatch.setattr(told, "DEV", 10)
    monkeypatch.setattr("sys.argv", ["told.py", str(tmp_path)])
    told.main()
    both = [row for split in ("train", "dev") for row in iterate_manifest(tmp_path / f"told-{split}.jsonl")]
    shown = {row["told"]["image"] for row in both if row["told"].get("image")}
    assert {"手风琴", "月亮", "你好", "北京"} <= shown and "一" not in shown
    assert all(set(name) <= set("天地") for name in shown - {"手风琴", "月亮", "你好", "北京"})
    assert len({row["id"] for row in both}) == len(both)


def manifest(folder: Path, name: str, rows: list[dict]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def image_row(name: str, shown: str) -> dict:
    told = {"told": {"image": shown}, "accept": [shown]}
    return {"id": name, "image": f"{name}.png", "response": shown, "instruction": "这是什么？", **told}


@pytest.fixture
def shown(tmp_path, data) -> Path:
    """What pictures.py, speech.py and others leave: images of four things, recordings that name two of them."""
    out = tmp_path / "out"
    (out / "audio").mkdir(parents=True)
    photos = [image_row(f"p{i}", name) for i, name in enumerate(["月亮", "手风琴", "手风琴"])]
    caption = {"id": "p1-caption", "image": "p1.png", "response": "这是一架手风琴。"}
    emoji = [image_row(f"e{i}", name) for i, name in enumerate(["太阳", "风", "月亮"])]
    manifest(out, "photos-train", [*photos, caption])
    manifest(out, "emoji-train", emoji)
    for split, photographs, drawn in (("dev", "photos-dev", "emoji-dev"), ("test", "photos-test", "emoji-test-style")):
        manifest(
            out, photographs, [image_row(f"{split}{n}", name) for n, name in enumerate(["手风琴", "烙饼", "月亮"])]
        )
        manifest(out, drawn, [image_row(f"{split}{n}", name) for n, name in enumerate(["太阳", "月亮"], start=3)])
    wave = 0.1 * np.random.default_rng(0).normal(size=8000) * np.hanning(8000)
    for split, texts in {
        "train": ["月亮出来了。", "月亮", "大风", "风"],
        "dev": ["太阳"],
        "test": ["月亮", "你好"],
    }.items():
        rows = []
        for i, text in enumerate(texts):
            soundfile.write(out / f"audio/{split}{i}.wav", wave, 16_000)
            row = {"id": f"{split}{i}", "speech": f"audio/{split}{i}.wav", "duration": 0.5, "response": text}
            rows.append(row | {"instruction": "请忠实地识别语音"})
        manifest(out, f"real_words-{split}", rows)
    voices = [{"voice": {"zf_xiaobei": 0.5, "am_adam": 0.5}}, {"voice": {"zf_xiaoyi": 1.0}}]
    manifest(data / "voices", "manifest", voices)
    return out


def speak(out: Path) -> list[dict]:
    """The jobs, as if Kokoro had spoken them."""
    (out / "spoken").mkdir(exist_ok=True)
    jobs = [json.loads(line) for line in (out / "spoken-jobs.jsonl").read_text(encoding="utf-8").splitlines()]
    for job in jobs:
        soundfile.write(out / f"spoken/{job['id']}.wav", np.sin(np.arange(4000) / 9), 16_000)
    return jobs


def test_questions_are_asked_aloud_in_voices_of_their_split(script, data, shown, monkeypatch):
    run(script("spoken"), monkeypatch, data, shown)
    assert not list(shown.glob("asked-*")), "nothing is spoken yet"
    jobs = speak(shown)
    assert len({job["id"] for job in jobs}) == len(jobs)
    tested = {voice for job in jobs if job["split"] == "test" for voice in job["voice"]}
    assert tested == {"zf_xiaoyi", "zm_yunyang"} and tested.isdisjoint(
        voice for job in jobs if job["split"] != "test" for voice in job["voice"]
    )
    said = defaultdict(set)
    for job in jobs:
        said[job["split"]] |= {job["name"]} if job["kind"] == "say" else set()
    assert said == {"train": {"手风琴"}, "dev": {"手风琴", "太阳", "月亮"}, "test": {"手风琴", "太阳", "月亮"}}
    run(script("spoken"), monkeypatch, data, shown)
    aloud, typed = (list(iterate_manifest(shown / f"asked-test{kind}.jsonl")) for kind in ("", "-typed"))
    assert {row["response"] for row in aloud} == {"手风琴", "太阳", "月亮"}, "no training image shows the fourth"
    texts = {job["id"]: job["text"] for job in jobs}
    for spoken, written in zip(aloud, typed, strict=True):
        assert texts[Path(spoken["speech"]).stem] == written["instruction"] and "-test-" in spoken["speech"]
        assert spoken["image"] == written["image"] and spoken["accept"] == [spoken["response"]]
    train = list(iterate_manifest(shown / "asked-train.jsonl"))
    assert len(train) == 12 and all("-train-" in row["speech"] for row in train if row["speech"])
    answers = [row["response"] for row in iterate_manifest(shown / "whether-train.jsonl")]
    assert answers.count("有") == answers.count("没有") > 0
    for row in iterate_manifest(shown / "whether-test-typed.jsonl"):
        assert (row["told"]["image"] in row["instruction"]) == (row["response"] == "有")


def test_speech_in_noise_names_the_image_beside_it_or_in_training_does_not(script, data, shown, monkeypatch):
    run(script("spoken"), monkeypatch, data, shown)
    speak(shown)
    run(script("heard"), monkeypatch, shown)
    rows = list(iterate_manifest(shown / "heard-train.jsonl"))
    right = [row["told"]["image"] in row["response"] for row in rows]
    assert right.count(False) * 3 >= len(rows) > 0 and right.count(True) >= len(rows) / 2
    assert {row["response"] for row in rows} >= {"月亮出来了。", "月亮", "风"} and "大风" not in {
        r["response"] for r in rows
    }
    alone = list(iterate_manifest(shown / "heard-alone-train.jsonl"))
    assert not any(row["image"] for row in alone) and {r["speech"] for r in alone} < {r["speech"] for r in rows}
    assert all(row["told"]["image"] in row["response"] for row in iterate_manifest(shown / "heard-test.jsonl"))
    (real,) = iterate_manifest(shown / "heard-test-real.jsonl")
    assert (real["response"], real["told"]["image"]) == ("月亮", "月亮")
    clean, mixed = (load_audio(path) for path in (shown / "audio/test0.wav", real["speech"]))
    scale = float(mixed @ clean / (clean @ clean))
    noise = mixed - scale * clean
    assert abs(10 * np.log10(float((scale * clean).square().mean() / noise.square().mean()))) < 1.0, "0 dB"
    before = Path(real["speech"]).stat().st_mtime_ns
    run(script("heard"), monkeypatch, shown)
    assert Path(real["speech"]).stat().st_mtime_ns == before


def test_joint_instructions_are_shown_and_told_in_words(script, shown, monkeypatch):
    manifest(shown, "standins-train", [image_row("s0", "金鱼")])
    for split in ("train", "dev"):
        manifest(shown, f"videos-{split}", [{"id": "v", "video": "v.mp4", "instruction": "?", "response": "月亮变大"}])
    texts = ["月亮出来了。", "我在家。", "金鱼" * 40]
    manifest(shown, "text-first-train", [{"id": str(i), "response": text} for i, text in enumerate(texts)])
    run(script("joint"), monkeypatch, shown)
    rows = {row["id"]: row for row in iterate_manifest(shown / "joint-train.jsonl")}
    assert (
        rows["p1-described"]["response"] == "这是一架手风琴。" and rows["p2-described"]["response"] == "图中是手风琴。"
    )
    assert rows["train1"]["instruction"] is None and rows["v"]["video"], "the wording is drawn"
    for row in rows.values():
        (turn,) = row["history"] or [None]
        if turn:
            said = dict([(turn["instruction"], turn["response"]), (row["instruction"], row["response"])])
            assert row["told"]["image"] in said.values() and {"有", "没有"} & set(said.values())
    told = [row for split in ("train", "dev") for row in iterate_manifest(shown / f"told-joint-{split}.jsonl")]
    assert {row["told"]["image"] for row in told} == {"月亮", "手风琴", "太阳", "风", "金鱼"}
    (masr,) = [row for row in told if row["instruction"] in INSTRUCTIONS["masr"]]
    assert (masr["response"], masr["told"]["speech"]) == ("月亮出来了。", "月亮出来了")


def test_the_longest_name_in_a_sentence_is_found(script):
    find = script("wordings").finder(["琴", "手风琴", "风琴", "月亮"])
    assert [find(text) for text in ("手风琴。", "他有手风琴", "琴", "钢琴", "月亮和手风琴")] == [
        *("手风琴", "手风琴", "琴", None, "手风琴"),
    ]
