"""`xllm chat --web`: turns with files, errors as answers, and the page itself in a browser where Chromium is there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from xllm.chat import Conversation
from xllm.errors import MediaError
from xllm.generation import Sampling
from xllm.model import XLLM
from xllm_cli.web import kind, page, respond

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.opus"))
CHROMIUM = shutil.which("chromium")


@pytest.fixture
def model(seeing):
    return XLLM.from_pretrained(seeing / "seeing")


def turns(talk, text, *files):
    return list(respond(talk, {"text": text, "files": [str(f) for f in files]}, Sampling(), 5))


def test_files_are_told_apart(seeing):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(seeing / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(seeing / "still.gif")
    told = [kind(str(seeing / name)) for name in ("red.png", "moving.gif", "still.gif", "x.MP4", "x.opus")]
    assert told == ["image", "video", "image", "video", "speech"]
    with pytest.raises(MediaError, match="x.txt: neither"):
        kind(str(seeing / "x.txt"))


def test_an_answer_grows_and_is_what_chat_says(model, seeing):
    talk = Conversation(model)
    seen = turns(talk, "天", seeing / "red.png")
    assert [m["role"] for m in seen[0]] == ["user", "user"] and seen[0][0]["content"]["path"].endswith("red.png")
    answers = [t[-1]["content"] for t in seen[1:]]
    assert all(b.startswith(a) for a, b in zip(answers, answers[1:], strict=False))
    other = Conversation(model)
    other.attach("image", seeing / "red.png")
    assert "".join(other.ask("天", max_tokens=5)) == answers[-1]
    assert turns(talk, "", EXAMPLES[0])[-1][-1]["role"] == "assistant"
    assert len(talk.turns) == 2


def test_a_picture_may_be_shown_before_anything_is_asked(model, seeing):
    talk = Conversation(model)
    assert len(turns(talk, "", seeing / "red.png")) == 1 and talk.files and not talk.turns


def test_a_bad_file_is_an_answer(model, seeing):
    (seeing / "bad.png").write_text("no")
    talk = Conversation(model)
    assert "bad.png" in turns(talk, "天", seeing / "bad.png")[-1][-1]["content"]
    assert turns(talk, "天")[-1][-1]["role"] == "assistant"


BROWSE = """
import sys
from playwright.sync_api import sync_playwright
url, picture, chromium, shot = sys.argv[1:]
with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
    view = browser.new_page(viewport={"width": 1000, "height": 700})
    view.goto(url)
    view.locator("input[type=file]").first.set_input_files(picture)
    view.get_by_role("textbox").fill("天")
    view.wait_for_timeout(1500)
    view.get_by_role("textbox").press("Enter")
    view.locator("[data-testid=bot]").first.wait_for(timeout=30000)
    view.wait_for_timeout(1000)
    print(view.locator("[data-testid=bot]").first.inner_text().strip())
    view.screenshot(path=shot + "/wide.png")
    view.set_viewport_size({"width": 380, "height": 700})
    view.wait_for_timeout(500)
    view.screenshot(path=shot + "/narrow.png")
    browser.close()
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_answers_in_a_browser(model, seeing, tmp_path):
    pytest.importorskip("playwright")
    blocks = page(model, Sampling(), 5)
    _, url, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        arguments = [sys.executable, "-c", BROWSE, url, str(seeing / "red.png"), CHROMIUM, str(tmp_path)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    finally:
        blocks.close()
    assert done.returncode == 0, done.stderr[-2000:]
    talk = Conversation(model)
    talk.attach("image", seeing / "red.png")
    assert done.stdout.strip() == "".join(talk.ask("天", max_tokens=5)).strip()
    assert url.startswith("http://127.0.0.1")
