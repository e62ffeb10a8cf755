"""Reports: three whole files, hostile text that stays text, files that cannot be read, and the page in a browser."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from media_files import shades, tone, write_audio, write_film
from PIL import Image

from xllm.evaluation import report as module
from xllm.evaluation.report import Medium, Report, Sample, markdown, page, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = (
    "</script><script>window.bad = 1</script><img src=http://127.0.0.1:9/x onerror='window.bad = 2'>\u2028<!-- &lt;"
)
TABLES = {"CER": [["", "S", "S+V"], ["ours | theirs", "1.0", "2.0"]]}


def told(html: str) -> dict:
    """What a browser reads from the page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])


def shown(*media):
    return told(page(Report("t", TABLES, {}, [Sample("a", media=[Medium(*m) for m in media])])))["media"]


def test_three_files_whole_and_alike(tmp_path):
    samples = [Sample("a", "conv", [Medium("image", "a.png")], {"answer": "猫"}, {"score": None}, True), Sample("b")]
    made = Report("LLaVA-test", TABLES, {"cer": {"low": 1.5}}, samples, {"seed": 0}, ["a note"], "xllm eval x")
    write(tmp_path / "new", made)
    assert sorted(os.listdir(tmp_path / "new")) == ["report.html", "report.json", "report.md"]
    plain = json.loads((tmp_path / "new" / "report.json").read_text())
    assert plain["figures"] == {"cer": {"low": 1.5}} and plain["settings"] == {"seed": 0}
    assert plain["samples"][0] == {
        "id": "a",
        "group": "conv",
        "media": [{"kind": "image", "path": "a.png"}],
        "texts": {"answer": "猫"},
        "numbers": {"score": None},
        "wrong": True,
    }
    page_data = told((tmp_path / "new" / "report.html").read_text())
    assert page_data["samples"][0]["numbers"] == {"score": None} and page_data["command"] == "xllm eval x"


def test_what_json_cannot_hold_leaves_the_old_report(tmp_path):
    write(tmp_path, Report("old", TABLES, {}, []))
    with pytest.raises(ValueError):
        write(tmp_path, Report("new", TABLES, {"cer": float("nan")}, []))
    assert all("old" in (tmp_path / f"report.{kind}").read_text() for kind in ("json", "md", "html"))


def test_half_a_character_is_no_reason_to_lose_a_report(tmp_path):
    write(tmp_path, Report("t", TABLES, {}, [Sample("\udc80", texts={"answer": "\ud800"})]))
    assert json.loads((tmp_path / "report.json").read_text())["samples"][0]["texts"] == {"answer": "?"}


def test_markdown_is_a_table_and_no_samples():
    samples = [Sample("secret")]
    text = markdown(Report("<t>", TABLES, {}, samples, {"model": "a|b", "k": None}, ["[x](y)"], "xllm\neval"))
    assert text == (
        "# \\<t\\>\n\nCER\n\n|  | S | S+V |\n| --- | --: | --: |\n| ours \\| theirs | 1.0 | 2.0 |\n\n"
        "\\[x\\](y)\n\nMade by:\n\n    xllm\n    eval\n\nSettings:\n\n* model: a\\|b\n* k: null\n"
    )


def test_hostile_text_cannot_leave_its_element():
    hostile = Sample(HOSTILE, HOSTILE, [Medium("image", HOSTILE)], {HOSTILE: HOSTILE}, {HOSTILE: 1.0})
    html = page(Report(HOSTILE, {HOSTILE: [[HOSTILE]]}, {}, [hostile], {HOSTILE: HOSTILE}, [HOSTILE], HOSTILE))
    clean = page(Report("", {}, {}, []))
    for mark in ("<script", "</script", "<img", "<!--", "\u2028"):
        assert html.count(mark) == clean.count(mark)
    assert told(html)["samples"][0]["texts"] == {HOSTILE: HOSTILE} and told(html)["title"] == HOSTILE


def test_pictures_films_and_short_sounds_are_in_the_page_once(tmp_path):
    Image.new("RGBA", (1000, 500), (0, 0, 0, 0)).save(tmp_path / "drawn.png")
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).resize((800, 1600)).save(tmp_path / "photo.jpg")
    write_film(tmp_path / "film.mp4", shades(9, (64, 96)))
    write_audio(tmp_path / "short.wav", tone(1.0))
    write_audio(tmp_path / "long.wav", tone(8.0))
    kinds = {"drawn.png": "image", "photo.jpg": "image", "film.mp4": "video", "short.wav": "speech"}
    media = [(kind, str(tmp_path / name)) for name, kind in kinds.items()]
    drawn, photo, film, short, long = shown(*media, *media, ("speech", str(tmp_path / "long.wav")))
    starts = ["data:image/png;base64,", "data:image/jpeg;base64,", "data:image/", "data:audio/wav;base64,"]
    assert all(m["url"].startswith(start) for m, start in zip((drawn, photo, film, short), starts, strict=True))
    assert "url" not in long and "long" in long["said"]
    pixels = Image.open(io.BytesIO(base64.b64decode(drawn["url"].partition(",")[2])))
    assert pixels.size == (320, 160) and pixels.convert("RGB").getpixel((5, 5)) == (255, 255, 255)
    middle = Image.open(io.BytesIO(base64.b64decode(film["url"].partition(",")[2])))
    assert middle.convert("L").getpixel((40, 30)) == pytest.approx(120, abs=12)


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "bad.png").write_text("no")
    (tmp_path / "bad.mp4").write_text("no")
    media = [("image", tmp_path / "gone.png"), ("image", tmp_path / "bad.png"), ("video", tmp_path / "bad.mp4")]
    media += [("speech", tmp_path / "gone.wav"), ("speech", tmp_path), ("image", "\0"), ("speech", "x" * 5000)]
    said = [medium["said"] for medium in shown(*((kind, str(path)) for kind, path in media))]
    assert all("cannot be shown" in text for text in said)
    assert "no such file" in said[0] and "not a picture" in said[1] and "is a folder" in said[4]


def test_a_page_holds_so_much_and_says_so(tmp_path, monkeypatch):
    for name in "abc":
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{name}.png")
    media = [("image", str(tmp_path / f"{name}.png")) for name in "abc"]
    monkeypatch.setattr(module, "MAX_MEDIA", len(shown(*media)[0]["url"]) + 1)
    first, second, third = shown(*media)
    assert "url" in first and "not in the page" in second["said"] and "not in the page" in third["said"]


BROWSE = """
import json, sys
from playwright.sync_api import sync_playwright
path, chromium, shots = sys.argv[1:]
told, asked, errors = {}, [], []
with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
    view = browser.new_page(viewport={"width": 1280, "height": 800})
    view.set_default_timeout(60000)
    view.on("request", lambda request: asked.append(request.url))
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.goto("file://" + path)
    ids = lambda: view.locator("article h3").all_inner_texts()
    label = lambda name: view.get_by_label(name, exact=True)
    count = lambda: view.locator("#count").inner_text()
    told["all"], told["first"], told["title"] = count(), ids()[:3], view.title()
    view.locator("#more").click()
    told["more"] = [len(ids()), view.locator("#more").is_visible()]
    label("Text").fill("ANSWER 7")
    told["text"] = ids()
    label("Text").fill("")
    label("Group").select_option("odd")
    told["group"] = count()
    label("Show").select_option("only wrong")
    told["wrong"] = [count(), ids()[:2]]
    label("Group").select_option("all")
    label("Show").select_option("only unscored")
    told["unscored"] = ids()
    label("Show").select_option("all")
    label("Sort by").select_option("score")
    told["up"] = ids()[:2]
    label("Order").select_option("descending")
    told["down"] = ids()[:2]
    view.locator("#more").click()
    told["last"] = ids()[-1]
    label("Text").fill("window.bad")
    told["hostile"] = view.locator("article dd").first.inner_text()
    told["drawn"] = view.locator("article img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
    view.screenshot(path=shots + "/wide.png")
    view.set_viewport_size({"width": 380, "height": 800})
    told["fits"] = view.evaluate("document.documentElement.scrollWidth <= 380")
    told["scrolls"] = view.evaluate("(b => b.scrollWidth > b.clientWidth)(document.querySelector('.box'))")
    view.screenshot(path=shots + "/narrow.png")
    told["elsewhere"] = [url for url in asked if not url.startswith(("file://" + path, "data:"))]
    view.evaluate("hostile => document.querySelector('h1').innerHTML = hostile", "<img src=x onerror='window.bad = 3'>")
    view.wait_for_timeout(500)
    told["bad"] = view.evaluate("window.bad ?? null")  # the policy holds even where text would get out
    browser.close()
print(json.dumps(told | {"errors": errors}))
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_in_a_browser(tmp_path):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "red.png")
    samples = [
        Sample(str(i), ("even", "odd")[i % 2], (), {"answer": f"Answer {i}."}, {"score": i % 250}, i % 3 == 0)
        for i in range(249)
    ]
    samples.append(Sample("zz", "even", [Medium("image", str(tmp_path / "red.png"))], {"x": HOSTILE}, {"score": None}))
    head = ["", *(f"a column {i}" for i in range(12))]
    tables = {"a caption that is longer than the page of a small telephone is wide": [head, [HOSTILE] * 13]}
    write(tmp_path, Report(HOSTILE, tables, {}, samples, {"s": HOSTILE}, [HOSTILE], "xllm " + "x" * 300))
    arguments = [str(tmp_path / "report.html"), CHROMIUM, str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", BROWSE, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    got = json.loads(done.stdout)
    assert got.pop("hostile").startswith("</script><script>window.bad = 1</script><img")
    assert got.pop("title").startswith("</script><script>")
    assert got.pop("text") == ["7", *map(str, range(70, 80))]
    assert got == {
        "all": "250 samples, the first 200 shown",
        "first": ["0", "1", "2"],
        "more": [250, False],
        "group": "124 of 250 samples",
        "wrong": ["41 of 250 samples", ["3", "9"]],
        "unscored": ["zz"],
        "up": ["0", "1"],
        "down": ["248", "247"],
        "last": "zz",
        "drawn": 30,
        "bad": None,
        "fits": True,
        "scrolls": True,
        "elsewhere": [],
        "errors": [],
    }
