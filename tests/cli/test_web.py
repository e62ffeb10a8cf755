"""`xllm chat --web`: turns with files, errors as answers, and the page itself in a browser where Chromium is there."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from xllm import chat
from xllm.chat import Conversation
from xllm.errors import MediaError
from xllm.generation import Sampling
from xllm.model import XLLM
from xllm_cli.web import kind, launch, page, respond

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.opus"))
SUN = Path(__file__).parents[2] / "examples" / "sun.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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


def test_a_bad_file_is_called_by_its_name(model, seeing):
    (seeing / "bad.png").write_text("no")
    told = turns(Conversation(model), "天", seeing / "bad.png")[-1][-1]["content"]
    assert told.startswith("⚠ bad.png: ") and str(seeing) not in told


def test_what_is_said_is_text_and_never_html(model, seeing, monkeypatch):
    monkeypatch.setattr("xllm.chat.stream", lambda *_: iter(("<b>1 < 2", " & &lt;</b>")))
    (seeing / "<i>.png").write_text("no")
    talk = Conversation(model)
    asked, answered = turns(talk, "<script>")[-1]
    assert asked["content"] == "&lt;script&gt;" and answered["content"] == "&lt;b&gt;1 &lt; 2 &amp; &amp;lt;&lt;/b&gt;"
    assert turns(talk, "天", seeing / "<i>.png")[-1][-1]["content"].startswith("⚠ &lt;i&gt;.png: ")
    assert talk.turns[0] == {"instruction": "<script>", "response": "<b>1 < 2 & &lt;</b>"}


def test_an_empty_answer_is_told(model, monkeypatch):
    monkeypatch.setattr("xllm.chat.stream", lambda *_: iter(()))
    assert turns(Conversation(model), "天")[-1][-1] == {"role": "assistant", "content": "(no answer)"}


def test_without_gradio_it_says_what_to_install(xllm, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = xllm("chat", "--web", "--model", "nowhere")
    assert (code, out, err) == (2, "", "error: --web needs gradio: pip install 'xllm-cli[web]'\n")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, empty."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # and restored afterwards
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def status(address, **headers):
    """Of a request with these headers; `data` makes it a POST."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, **headers), timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


FORM = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nimage\r\n--x--\r\n'


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_page_is_served_until_interrupted_and_leaves_nothing(xllm, seeing, temporary, monkeypatch, end):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be asked about this machine
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has a command in the background ignore
    told = []

    def interrupt(seconds):
        assert not told, "it goes on after the first time"
        (address,) = [line.split()[0] for line in sys.stderr.getvalue().splitlines() if line.startswith("http")]
        upload = f"{address}gradio_api/upload"
        form = {"data": FORM, "method": "POST"}
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        told.extend([address, status(address), status(address, headers={"Host": "evil.example"})])
        told.append(status(upload, headers=kind | {"Origin": "http://evil.example"}, **form))
        told.append([path.read_bytes() for path in temporary.rglob("*.png")])
        told.append(status(upload, headers=kind | {"Origin": address.rstrip("/")}, **form))
        told.append([path.read_bytes() for path in temporary.rglob("*.png")])
        os.kill(os.getpid(), end)

    monkeypatch.setattr("xllm_cli.web.wait", interrupt)
    try:
        code, out, err = xllm("chat", "--web", "--model", seeing / "seeing", "--device", "cpu")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert code == 130 and out == "" and "Ctrl-C closes it" in err
    assert told[0].startswith("http://127.0.0.1:") and told[1:] == [200, 400, 403, [], 200, [b"image"]]
    assert not list(temporary.iterdir())


def test_a_taken_port_is_told(xllm, seeing):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = xllm("chat", "--web", "--port", port, "--model", seeing / "seeing", "--device", "cpu")
    assert code == 2 and out == "" and str(port) in err and "choose another --port" in err


BROWSE = """
import json, sys
from playwright.sync_api import sync_playwright
url, picture, bad, chromium, shots = sys.argv[1:]
told = {}
with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
    view = browser.new_page(viewport={"width": 1000, "height": 700})
    view.set_default_timeout(90000)
    asked = []
    view.on("request", lambda request: asked.append(request.url))
    view.goto(url)
    box, bots = view.get_by_role("textbox"), view.locator("[data-testid=bot]")
    def ask(text, file=None, previous=0):
        if file:
            view.locator("input[type=file]").first.set_input_files(file)
            view.locator("[aria-label='Remove file'], .thumbnail-item").first.wait_for()
        box.fill(text)
        view.wait_for_timeout(1000)
        box.press("Enter")
        bots.nth(previous).wait_for()
    ask("这是什么？", picture)
    box.fill("meanwhile")
    before = None
    while before != (before := bots.first.inner_text().strip()):  # until the answer is whole
        view.wait_for_timeout(3000)
    told["answer"], told["typed"] = before, box.input_value()
    told["share"] = view.get_by_label("Share").first.is_visible()
    view.screenshot(path=shots + "/wide.png")
    view.set_viewport_size({"width": 380, "height": 700})
    view.wait_for_timeout(500)
    view.screenshot(path=shots + "/narrow.png")
    told["fits"] = view.evaluate("document.documentElement.scrollHeight <= 701 && document.body.scrollWidth <= 380")
    ask("地", previous=1)
    view.get_by_label("Clear").first.click()  # in the middle of an answer
    view.wait_for_timeout(4000)
    told["left"] = bots.count()
    ask("天", bad)
    view.wait_for_timeout(1000)
    told["bad"] = bots.first.inner_text().strip()
    view.get_by_label("Clear").first.click()
    ask("<img src=/x1><b>tag</b>")
    view.wait_for_timeout(4000)
    told["asked"] = view.locator("[data-testid=user]").last.inner_text().strip()
    told["tags"] = bots.first.inner_text().strip(), view.locator(".message-content :is(b, img, script, iframe)").count()
    told["ran"] = view.evaluate("window.ran === undefined")
    told["elsewhere"] = [u for u in asked if not u.startswith((url, "data:", "blob:")) or "/x" in u]
    browser.close()
print(json.dumps(told))
"""


TAGS = "<img src=/x2 onerror='window.ran = 1'> ![m](http://192.0.2.1/x3) <iframe src=/x4></iframe> $$y$$ 1 < 2 &amp;"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_answers_in_a_browser(seeing, tmp_path, temporary, monkeypatch):
    tiny = XLLM.from_pretrained("tiny")
    (seeing / "bad.png").write_text("no")
    whole = chat.stream

    def slowly(model, question, *arguments):
        if "<b>" in question.asked:  # a model that was taught to
            yield TAGS
            return
        for piece in whole(model, question, *arguments):
            yield piece
            time.sleep(0.3)

    monkeypatch.setattr(chat, "stream", slowly)
    blocks = page(tiny, Sampling(), 8)
    url = launch(blocks, temporary)
    try:
        arguments = [url, str(SUN), str(seeing / "bad.png"), CHROMIUM, str(tmp_path)]
        done = subprocess.run([sys.executable, "-c", BROWSE, *arguments], capture_output=True, text=True, timeout=400)
    finally:
        blocks.close(verbose=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told.pop("bad").startswith("⚠ bad.png: not a picture")
    assert (told.pop("asked"), told.pop("tags"), told.pop("ran")) == ("<img src=/x1><b>tag</b>", [TAGS, 0], True)
    assert told == {"answer": "太阳", "typed": "meanwhile", "share": False, "fits": True, "left": 0, "elsewhere": []}
