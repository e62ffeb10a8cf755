"""Every file opened: what is broken, silent, empty or too long is found; the page counts all and trusts nobody."""

import json
import re

import numpy as np
import pytest
from media_files import shades, tone, write_audio, write_film
from PIL import Image

from xllm.media import probe_audio
from xllm.modalities import MODALITIES
from xllm.steps.check import Check
from xllm.steps.check_page import write_page
from xllm.steps.rows import Dropped, read_rows
from xllm.steps.run import run, sidecar
from xllm.steps.workers import processes


@pytest.fixture
def media(tmp_path):
    write_audio(tmp_path / "good.wav", tone(1.25))
    write_audio(tmp_path / "long.flac", tone(31.0))
    write_audio(tmp_path / "short.wav", tone(0.05))
    write_audio(tmp_path / "silent.wav", np.zeros(16000, np.float32))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("I am no sound, <script>alert(1)</script>")
    Image.new("RGB", (20, 20)).save(tmp_path / "good.png")
    Image.effect_noise((64, 64), 90).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    write_film(tmp_path / "good.mp4", shades(10))
    np.save(tmp_path / "good.npy", np.zeros((2, 8), np.float16))
    np.save(tmp_path / "other.npy", np.zeros(8))
    return tmp_path


ROWS = [
    {"id": "1", "speech": "good.wav", "response": "天"},
    {"id": "2", "speech": "good.wav", "image": ["good.png", "whole.jpg"], "video": "good.mp4", "response": "天地"},
    {"id": "3", "speech": "long.flac", "response": "天"},
    {"id": "4", "speech": "short.wav", "response": "天"},
    {"id": "5", "speech": "silent.wav", "response": "天"},
    {"id": "6", "speech": "empty.wav", "response": "天"},
    {"id": "7", "speech": "text.wav", "response": "天"},
    {"id": "8", "speech": "none.wav", "response": "天"},
    {"id": "9", "image": "cut.jpg", "response": "天"},
    {"id": "10", "image": "good.png", "response": " \t"},
    {"id": "11", "image": "good.png", "response": "天" * 6},
    {"id": "12", "image": "good.png", "history": [{"instruction": "a", "response": "b"}]},
    {"id": "13", "image": "good.png"},
    {"id": "14", "video": "good.png", "response": "天"},
    {"id": "15", "image": "good.npy", "response": "天"},
    {"id": "16", "image": "other.npy", "response": "天"},
]
REASONS = {
    "3": "too long",
    "4": "too short",
    "5": "silent",
    "6": "damaged",
    "7": "damaged",
    "8": "no such file",
    "9": "damaged",
    "10": "no words",
    "11": "too many characters",
    "13": "no words",
    "14": "damaged",
    "16": "damaged",
}


def checked(media, workers=1):
    (media / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    out = media / f"out-{workers}" / "x.jsonl"
    report = run(
        lambda: read_rows(media / "in.jsonl"), out, {}, Check(max_characters=5), mapper=processes(workers), chunk=5
    )
    return out, report


def test_each_fault_has_its_reason(media):
    out, report = checked(media)
    found = {row["id"]: row["reason"] for row in map(json.loads, sidecar(out, "dropped.jsonl").open())}
    assert found == REASONS
    kept = {row["id"]: row for row in read_rows(out)}
    assert kept.keys() == {"1", "2", "12", "15"} and kept["1"]["duration"] == kept["2"]["duration"] == 1.25
    assert "duration" not in kept["12"]
    assert report.failed == {"damaged": 5, "no such file": 1} and sum(report.dropped.values()) == 6
    parallel, _ = checked(media, workers=2)
    assert parallel.read_bytes() == out.read_bytes()


NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, 64000).astype(np.float32)


@pytest.mark.parametrize("end", [".wav", ".mp3", ".flac"])
def test_half_a_recording_is_damaged(tmp_path, end):
    """FFmpeg decodes what is there and says nothing; its words would be those of the whole."""
    whole = write_audio(tmp_path / f"whole{end}", NOISE)
    half = whole.read_bytes()[: whole.stat().st_size // 2]
    (tmp_path / f"cut{end}").write_bytes(half)
    (tmp_path / "x.tar").write_bytes(bytes(512) + half + bytes(512))
    names = [f"whole{end}", f"cut{end}", f"x.tar:512:{len(half)}"]
    rows = [{"id": name, "speech": str(tmp_path / name), "response": "天"} for name in names]
    kept, *lost = Check()(rows)
    assert kept["duration"] == pytest.approx(4.0, abs=0.1)
    assert [(row.id, row.reason, row.failed) for row in lost] == [(name, "damaged", True) for name in names[1:]]
    assert all(re.search("of 4.0|: [12][.].. s lost at [12]", row.detail) for row in lost)


def test_what_no_header_states_is_not_missed(tmp_path):
    """A WAV that was piped claims 4 GB; raw AAC's length is a guess, far too long where it begins in silence."""
    piped = bytearray(write_audio(tmp_path / "piped.wav", NOISE).read_bytes())
    piped[4:8] = piped[piped.index(b"data") + 4 : piped.index(b"data") + 8] = b"\xff" * 4
    (tmp_path / "piped.wav").write_bytes(piped)
    write_audio(tmp_path / "raw.aac", np.concatenate([np.zeros(64000, np.float32), NOISE]), codec="aac")
    assert probe_audio(tmp_path / "raw.aac") == pytest.approx(8.0, abs=0.2), "by decoding"
    rows = [{"id": name, "speech": str(tmp_path / name), "response": "天"} for name in ("piped.wav", "raw.aac")]
    assert [row["duration"] for row in Check()(rows)] == pytest.approx([4.0, 8.0], abs=0.2)


def test_names_that_no_file_can_have(tmp_path):
    names = ["x" * 5000, "a\0b.wav", "\ud800.wav", "a.tar:5:99"]
    rows = [{"id": "a", kind: f"{tmp_path}/{name}", "response": "天"} for name in names for kind in MODALITIES]
    assert {(row.reason, row.failed) for row in Check()(rows)} == {("no such file", True)}


def test_the_page_counts_everything_and_escapes_it(media):
    hostile = '<img src=x onerror="alert(1)">'

    def source():
        for number in range(50):
            yield {"id": str(number), "speech": "a.wav", "duration": number / 10, "response": "天" * number}
        yield {"id": "x", "image": ["a.png", "b.png"], "response": "天", "source": hostile}
        for number in range(30):
            yield Dropped(f"{hostile}{number}", "too long", hostile)
        yield Dropped("y", "damaged", "</table>", failed=True)

    out = media / "page" / "x.jsonl"
    run(source, out, {})
    write_page(out, sidecar(out, "html"))
    page = sidecar(out, "html").read_text()
    assert "<img" not in page and "<script" not in page and "</table></table>" not in page
    text = re.sub(r"<[^>]+>", " ", page)
    assert all(part in re.sub(r"\s+", " ", text) for part in ("82 inputs", "51 kept", "31 left out", "2 image files"))
    assert "30 too long" in text and "20 of them below" in text and page.count("<tr>") == 21
    bars = [int(count) for count in re.findall(r": (\d+) rows</title>", page)]
    assert sum(bars) == 50 + 51, "every duration and every length is in one bar"
    assert not re.search(r"https?:|src=|url\(|@import|\son\w+=", re.sub(r">[^<]*<", "><", page)), "asks for nothing"


def test_numbers_that_are_none_and_names_without_end(media):
    odd = [float("nan"), float("inf"), -5, 1e9, 250, 12]
    rows = [{"id": str(n), "speech": "a.wav", "duration": long} for n, long in enumerate(odd)]
    rows += [{"id": "a", "response": "天" * 5000}, {"id": "b", "response": "天", "source": {"a": "\ud800"}}]
    rows += [{"id": f"s{n}", "source": f"{n}" * 500} for n in range(1500)] + [Dropped("i" * 10**6, "r", "d" * 10**6)]
    out = media / "page" / "x.jsonl"
    report = run(lambda: rows, out, {})
    write_page(out, sidecar(out, "html"))
    page = sidecar(out, "html").read_text()
    assert report.failed == {"not UTF-8": 1} and len(page) < 20_000
    assert "200 seconds or more: 2 rows" in page and "10 to 20 seconds: 1 rows" in page
    assert "2000 characters or more: 1 rows" in page and ">others<" in page


def test_the_page_of_nothing(media):
    out = media / "page" / "x.jsonl"
    run(lambda: [], out, {})
    write_page(out, sidecar(out, "html"))
    assert "Nothing." in sidecar(out, "html").read_text()
