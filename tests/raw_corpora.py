"""Corpora in miniature, each in the layout in which it is distributed, and the archives that they come in."""

import csv
import hashlib
import io
import json
import os
import signal
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from media_files import tone, write_audio, write_film
from PIL import Image

from xllm.corpora.corpus import convert
from xllm.corpora.raw import Raw
from xllm.corpora.table import CORPORA
from xllm.members import open_any
from xllm.steps.rows import Report, media_of


def write(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def wav(path: Path, seconds: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_audio(path, tone(seconds))


def picture(path: Path, grey: int = 100) -> Path:
    """One grey, so that a test can tell which picture it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey,) * 3).save(path)
    return path


def film(path: Path, grey: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_film(path, [np.full((32, 32, 3), grey, np.uint8)] * 3)


def aishell1(folder: Path) -> Path:
    """Two utterances of train, one of dev and one of test."""
    root = folder / "data_aishell"
    lines = []
    for number, (split, speaker) in enumerate(
        [("train", "S0002"), ("train", "S0003"), ("dev", "S0724"), ("test", "S0764")]
    ):
        name = f"BAC009{speaker}W012{number}"
        wav(root / "wav" / split / speaker / f"{name}.wav", 0.1 + number / 100)
        lines.append(f"{name} 你 好 世界 {'一二三四'[number]}")
    write(root / "transcript" / "aishell_transcript_v0.8.txt", "\n".join(lines) + "\n")
    return folder


def aishell2(folder: Path) -> Path:
    """Two utterances of train, one of each dev and test channel."""
    parts = {"iOS/data": ["IC0001W0001", "IC0002W0001"]}
    for channel, first in (("iOS", "I"), ("Android", "A"), ("Mic", "M")):
        for part, speaker in (("dev", "D0012"), ("test", "T0055")):
            parts[f"AISHELL-DEV-TEST-SET/{channel}/{part}"] = [f"{first}{speaker}W0001"]
    for part, names in parts.items():
        for name in names:
            wav(folder / part / "wav" / name[1:6] / f"{name}.wav")
        write(folder / part / "wav.scp", "".join(f"{n}\twav/{n[1:6]}/{n}.wav\n" for n in names))
        write(folder / part / "trans.txt", "".join(f"{n}\t打开 {n[-1]}\n" for n in names))
    return folder


def visdial(folder: Path) -> Path:
    """Three dialogues of train, one of val, one of test; the lists of texts come after the dialogues."""
    questions, answers = ["is it sunny", "what color is it", "any people"], ["yes", "red", "no"]

    def turn(question: int, answer: int | None) -> dict:
        options = {"answer_options": [0, 1, 2]}
        return {"question": question} | options | ({"answer": answer, "gt_index": 1} if answer is not None else {})

    dialogues = {
        "train": [(9, [turn(0, 0), turn(1, 1)]), (25, [turn(2, 2)]), (30, [turn(0, 7)])],
        "val": [(185565, [turn(1, 1)])],
        "test": [(568676, [turn(0, 2), turn(1, None)])],
    }
    for split, those in dialogues.items():
        dialogs = [{"image_id": i, "caption": f"picture {i}", "dialog": dialog} for i, dialog in those]
        data = {"dialogs": dialogs, "questions": questions, "answers": answers}
        write(folder / f"visdial_1.0_{split}.json", json.dumps({"version": "1.0", "split": split, "data": data}))
    picture(folder / "train2014" / "COCO_train2014_000000000009.jpg", 9)
    picture(folder / "val2014" / "COCO_val2014_000000000025.jpg", 25)
    picture(folder / "val2014" / "COCO_val2014_000000000030.jpg", 30)
    picture(folder / "VisualDialog_val2018" / "VisualDialog_val2018_000000185565.jpg", 65)
    picture(folder / "VisualDialog_test2018" / "VisualDialog_test2018_000000568676.jpg", 76)
    return folder


def sample(folder: Path, key: str, url: str, caption: str | None, grey: int = 100, suffix: str = ".jpg") -> None:
    """What img2dataset writes of one address."""
    picture(folder / f"{key}{suffix}", grey)
    about = {"caption": caption, "url": url, "key": key, "status": "success", "error_message": None, "width": 8}
    write(folder / f"{key}.json", json.dumps(about, indent=4))
    write(folder / f"{key}.txt", caption or "")


def fetched(folder: Path) -> Path:
    """Five samples in two folders, one of them without a caption; what else img2dataset leaves there."""
    for shard, keys in (("00000", "012"), ("00001", "03")):
        for key in keys:
            number = int(shard) * 10 + int(key)
            caption = None if number == 2 else f"第{number}张 picture"
            suffix = ".webp" if number == 13 else ".jpg"
            sample(folder / shard, f"{shard}000{key}", f"http://a.b/{number}?x=1", caption, 10 * number, suffix)
        write(folder / f"{shard}_stats.json", json.dumps({"count": 9, "successes": len(keys)}))
        write(folder / f"{shard}.parquet", b"PAR1")
    return folder


def cc3m(folder: Path) -> Path:
    """Samples, and a list for each split: of train one more, twice the same address and one broken line."""
    fetched(folder)
    train = [("one", 0), ("two\twith a tab", 1), ("lost", 5), ("again", 0), (" ", 10)]
    lines = "".join(f"{caption}\thttp://a.b/{n}?x=1\n" for caption, n in train) + "no address\n"
    write(folder / "Train_GCC-training.tsv", lines)
    write(folder / "Validation_GCC-1.1.0-Validation.tsv", "val\thttp://a.b/13?x=1\n")
    return folder


def sbu(folder: Path) -> Path:
    fetched(folder)
    urls = [f"http://a.b/{n}?x=1" for n in (13, 77, 1)]
    write(folder / "sbu-captions-all.json", json.dumps({"image_urls": urls, "captions": ["c", "lost", "a"]}))
    return folder


def wukong(folder: Path) -> Path:
    """Samples, and three of 256 lists, with commas, quotes and a line break in a caption."""
    fetched(folder)
    lists = {0: [(0, "甲，乙"), (1, 'a "b", c')], 2: [(78, "无"), (10, "丁")], 10: [(13, "上\n下")]}
    for number, entries in lists.items():
        text = io.StringIO()
        rows = [("url", "caption"), *((f"http://a.b/{n}?x=1", caption) for n, caption in entries)]
        csv.writer(text, lineterminator="\n").writerows(rows)
        write(folder / f"wukong_100m_{number}.csv", text.getvalue())
    return folder


def coco(folder: Path) -> Path:
    """Three captions of two images of train2014, one of a third that is not listed; one of val2014."""
    for split, ids in (("train2014", (9, 25)), ("val2014", (42,))):
        images = [{"id": i, "file_name": f"COCO_{split}_{i:012}.jpg", "width": 8} for i in ids]
        captions = [{"image_id": i, "id": 100 + n, "caption": f"A dog {n}"} for n, i in enumerate([*ids, ids[0]])]
        captions.append({"image_id": 7, "id": 99, "caption": "Of nothing"})
        data = {"info": {}, "images": images, "licenses": [], "annotations": captions}
        write(folder / "annotations" / f"captions_{split}.json", json.dumps(data))
        for i in ids:
            picture(folder / split / f"COCO_{split}_{i:012}.jpg", i)
    return folder


def visual_genome(folder: Path) -> Path:
    """Two images, each in a folder of its own, and one that is missing."""
    region = {"x": 1, "y": 2, "width": 3, "height": 4}
    images = [
        {
            "id": i,
            "regions": [{"region_id": 10 * i + k, "image_id": i, "phrase": f"thing {k}", **region} for k in range(2)],
        }
        for i in (1, 2, 3)
    ]
    write(folder / "region_descriptions.json", json.dumps([*images, {"id": 4, "regions": []}]))
    picture(folder / "VG_100K" / "1.jpg", 1)
    picture(folder / "VG_100K_2" / "2.jpg", 2)
    return folder


def flickr30k(folder: Path) -> Path:
    """Two captions of one image and one of another, one broken line, one picture missing."""
    lines = [
        "100.jpg#0\tTwo men .",
        "100.jpg#1\tMen with a # and a | .",
        "nonsense",
        "200.jpg#0\tA girl .",
        "300.jpg#0\tLost .",
    ]
    write(folder / "results_20130124.token", "\r\n".join(lines) + "\r\n")
    picture(folder / "flickr30k-images" / "100.jpg", 100)
    picture(folder / "flickr30k-images" / "200.jpg", 200)
    return folder


def flickr30k_cn(folder: Path) -> Path:
    """Two images of train with three captions, one caption of an image that is not there, one of a damaged one."""
    texts = [(0, "两个人", [100]), (1, "人们", [100]), (2, "女孩", [200]), (3, "没有", [300]), (4, "坏的", [400])]
    lines = [json.dumps({"text_id": i, "text": t, "image_ids": ids}, ensure_ascii=False) for i, t, ids in texts]
    write(
        folder / "train_texts.jsonl",
        "\n".join([*lines, '{"text_id": 5, "text": "断', '{"text_id": 6, "image_ids": []}']),
    )
    images = [b64encode(picture(folder / "x.jpg", grey).read_bytes()).decode() for grey in (100, 200)]
    (folder / "x.jpg").unlink()
    write(
        folder / "train_imgs.tsv",
        f"100\t{images[0]}\n200\t{images[1]}\n400\t!{images[0][:11]}\n../../500\t{images[0]}\n",
    )
    write(folder / "test_texts.jsonl", json.dumps({"text_id": 0, "text": "测试", "image_ids": [200]}) + "\n")
    write(folder / "test_imgs.tsv", f"200\t{images[1]}\n")
    return folder


def ai_challenger(folder: Path) -> Path:
    """Two images of train, one of which is missing, and one of validation; five captions each, one of them blank."""
    for split, date, names in (
        ("train", "20170902", ("8f00.jpg", "aa11.jpg")),
        ("validation", "20170910", ("0001.jpg",)),
    ):
        base = folder / f"ai_challenger_caption_{split}_{date}"
        captions = ["一个人", "两个人", " ", "三个人", "四个人"]
        annotations = [{"url": "http://a.b", "image_id": name, "caption": captions} for name in names]
        write(base / f"caption_{split}_annotations_{date}.json", json.dumps(annotations, ensure_ascii=False))
        picture(base / f"caption_{split}_images_{date}" / names[0], 80)
    return folder


def msr_vtt(folder: Path) -> Path:
    """A clip of each split, another of train that is missing, and a sentence about no clip."""
    about = {"category": 3, "url": "http://a.b", "start time": 1.5, "end time": 9.0}
    clips = [("video0", "train", 0), ("video1", "train", 1), ("video2", "validate", 2)]
    videos = [{"video_id": v, "split": s, "id": i, **about} for v, s, i in clips]
    said = [("video2", "c"), ("video0", "a"), ("video0", "b"), ("video1", "lost"), ("video9", "none")]
    sentences = [{"caption": caption, "video_id": v, "sen_id": i} for i, (v, caption) in enumerate(said)]
    write(folder / "train_val_videodatainfo.json", json.dumps({"info": {}, "videos": videos, "sentences": sentences}))
    test = {"sentences": [{"caption": "t", "video_id": "video7", "sen_id": 0}]}
    test["videos"] = [{"video_id": "video7", "split": "test", "id": 7, **about}]
    write(folder / "test_videodatainfo.json", json.dumps(test))
    film(folder / "TrainValVideo" / "video0.mp4", 40)
    film(folder / "TrainValVideo" / "video2.mp4", 120)
    film(folder / "TestVideo" / "video7.mp4", 200)
    return folder


def activitynet(folder: Path) -> Path:
    """Three films of train in different containers, one of them missing, and one film in both val files."""
    about = {"duration": 82.73, "timestamps": [[0.83, 19.86], [17.37, 60.81]]}
    for split, videos in (("train", ("v_a", "v_-b", "v_c")), ("val_1", ("v_d",)), ("val_2", ("v_d",))):
        data = {video: about | {"sentences": [f" {video} begins.", f" It ends in {split}. "]} for video in videos}
        write(folder / f"{split}.json", json.dumps(data))
    film(folder / "videos" / "v_a.mp4", 40)
    film(folder / "videos" / "v_-b.mkv", 120)
    film(folder / "v1-2" / "val" / "v_d.webm", 200)
    return folder


def minigpt4(folder: Path) -> Path:
    rows = [
        {"image_id": "2", "caption": "A long text."},
        {"image_id": "9", "caption": "Lost."},
        {"image_id": "2", "caption": "x"},
    ]
    write(folder / "cc_sbu_align" / "filter_cap.json", json.dumps({"annotations": rows}))
    picture(folder / "cc_sbu_align" / "image" / "2.jpg", 22)
    return folder


def llava(folder: Path) -> Path:
    """Two dialogues about one photograph, one about another, one about none that is there, one that begins with gpt."""

    def dialogue(image: int, *said: str, who: tuple[str, ...] = ("human", "gpt")) -> dict:
        turns = [{"from": who[n % 2], "value": text} for n, text in enumerate(said)]
        return {"id": f"{image:012}", "image": f"{image:012}.jpg", "conversations": turns}

    dialogues = [
        dialogue(9, "What is it?\n<image>", "A dog.", "Which color?", "Brown."),
        dialogue(9, "<image>\nDescribe it.", "A brown dog."),
        dialogue(25, "And this?\n<image>", "A cat."),
        dialogue(30, "Lost?\n<image>", "Yes."),
        dialogue(9, "A dog.", "What?", who=("gpt", "human")),
    ]
    write(folder / "llava_instruct_150k.json", json.dumps(dialogues))
    write(folder / "detail_23k.json", json.dumps(dialogues[1:2]))
    picture(folder / "train2017" / "000000000009.jpg", 9)
    picture(folder / "train2014" / "COCO_train2014_000000000025.jpg", 25)
    return folder


def tar(archive: Path, folder: Path, names: Iterable[str] | None = None, mode: str = "w") -> Path:
    """A tar of what lies in `folder`, or of those names in it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, mode) as out:
        for name in names or sorted(path.name for path in folder.iterdir()):
            out.add(folder / name, name)
    return archive


def zipped(archive: Path, folder: Path, names: Iterable[str] | None = None, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of what lies in `folder`, or of those names in it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", method) as out:
        for name in names or sorted(path.name for path in folder.iterdir()):
            for path in [folder / name, *sorted((folder / name).rglob("*"))]:
                out.write(path, path.relative_to(folder))
    return archive


def tree(folder: Path) -> dict[str, bytes]:
    """All files, links by where they lead."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file())
    return {str(p.relative_to(folder)): bytes(p.readlink()) if p.is_symlink() else p.read_bytes() for p in paths}


def killed(work: Callable[[], None]) -> bool:
    """Whether a process that does this kills itself (`die`), rather than ends."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Converted:
    report: Report
    rows: list[dict]
    dropped: dict[str, str]  # ids and why
    out: Path

    def path(self, index: int, key: str) -> str:
        """The path to a row's media as the loaders take it."""
        return str(self.out / self.rows[index][key])

    def contents(self) -> list[dict]:
        """Rows with what their media hold in place of their names: the same from folders and from archives."""
        told = []
        for row in self.rows:
            media = {}
            for key, path in media_of(row):
                with open_any(str(self.out / path)) as file:
                    media[key] = hashlib.sha256(file.read()).hexdigest()
            told.append(row | media)
        return told


def converted(name: str, raw: Path, out: Path, split: str, **how) -> Converted:
    """The split, converted, when all that must hold of any corpus holds."""
    before = tree(raw) if raw.is_dir() else raw.read_bytes()
    with Raw(raw, out) as corpus:
        report = convert(CORPORA[name], corpus, split, **how)
    assert before == (tree(raw) if raw.is_dir() else raw.read_bytes()), "what was downloaded stays as it is"
    rows = [json.loads(line) for line in (out / f"{split}.jsonl").read_text().splitlines()]
    dropped = [json.loads(line) for line in (out / f"{split}.dropped.jsonl").read_text().splitlines()]
    assert report.inputs == report.kept + len(dropped) and report.rows == len(rows)
    assert len({row["id"] for row in rows}) == len(rows) and {row["source"] for row in rows} <= {name}
    manifests = {f"{s}.{kind}" for s in CORPORA[name].splits for kind in ("jsonl", "dropped.jsonl", "report.json")}
    assert {path.name for path in out.iterdir()} <= {"unpacked", *manifests}
    result = Converted(report, rows, {each["id"]: each["reason"] for each in dropped}, out)
    result.contents()
    return result
