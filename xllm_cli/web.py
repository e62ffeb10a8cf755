"""`xllm chat --web`: a page to show pictures, films and sound, and to ask about them; on this machine only."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep as wait

EXPLAINED = """\
### Ask about a picture, a film or speech
Drop it or attach it, then type the question, or say it with the microphone. All stays on this machine.
"""
CSS = """
button[aria-label="Share"] {display: none}  /* under each file; it would upload it */
.bubble-wrap:has(.placeholder) {flex-grow: 1; display: grid; place-content: center; text-align: center; padding: 1rem}
.minimal-audio-player {height: 3rem}
"""


def kind(path: str) -> str:
    """Which modality a file is: by its suffix, or an animated picture as a film. Raises MediaError for others."""
    from xllm.errors import MediaError
    from xllm.media import AUDIO_SUFFIXES, VIDEO_SUFFIXES
    from xllm.pictures import PICTURE_SUFFIXES, open_picture

    suffix = Path(path).suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        with open_picture(path) as picture:
            return "video" if getattr(picture, "is_animated", False) else "image"
    if suffix in AUDIO_SUFFIXES:
        return "speech"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    raise MediaError(f"{Path(path).name}: neither a picture, a film nor sound")


def _said(role: str, text: str) -> dict:
    """A message that shows this text as it is: Gradio's Chatbot takes tags in it for HTML, also without Markdown."""
    return {"role": role, "content": escape(text, quote=False)}


def respond(talk, message: dict, sampling, max_tokens: int) -> Iterator[list[dict]]:
    """The new messages of one turn, as the answer grows; errors become an answer, and the conversation goes on.

    `message` is what was typed ("text") and the files given with it ("files").
    """
    from xllm.errors import XLLMError

    text, files = (message.get("text") or "").strip(), message.get("files") or []
    turn = [{"role": "user", "content": {"path": path}} for path in files]
    if text:
        turn.append(_said("user", text))
    yield turn
    try:
        spoken = None
        for path in files:
            name = kind(path)
            if name == "speech":
                spoken = Path(path)
            else:
                talk.attach(name, path)
        if not text and spoken is None:
            return  # shown, and nothing asked yet
        answer = ""
        for piece in talk.ask(text or None, sampling, max_tokens, spoken):
            answer += piece
            yield [*turn, _said("assistant", answer)]
        if not answer:
            yield [*turn, _said("assistant", "(no answer)")]
    except XLLMError as error:
        told = str(error)
        for path in files:  # in Gradio's temporary folder, which means nothing to whoever gave the file
            told = told.replace(path, Path(path).name)
        yield [*turn, _said("assistant", f"⚠ {told}")]


def page(model, sampling, max_tokens: int):
    """The page, as a Gradio application that is not started yet."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    from xllm.chat import Conversation

    def answer(message: dict, shown: list[dict], talk):
        talk = talk or Conversation(model)
        box = {"text": "", "files": []}
        for turn in respond(talk, message, sampling, max_tokens):
            yield [*shown, *turn], box, talk
            box = gr.skip()  # emptied once: the next question may be typed during this answer

    with gr.Blocks(title="xllm", analytics_enabled=False, fill_height=True) as blocks:
        talk = gr.State(None)
        shown = gr.Chatbot(
            show_label=False,
            placeholder=EXPLAINED,
            height="calc(100dvh - 8.5rem)",  # so that the box below stays in view
            min_height="12rem",
            buttons=[],  # to share would upload the conversation, to copy would copy escaped text
            feedback_options=None,
            render_markdown=False,
            latex_delimiters=[],
        )
        typed = gr.MultimodalTextbox(
            show_label=False,
            placeholder="这是什么？",
            file_count="multiple",
            file_types=["image", "video", "audio"],
            sources=["upload", "microphone"],
            autofocus=True,
        )
        answering = typed.submit(answer, [typed, shown, talk], [shown, typed, talk])
        shown.clear(lambda: ([], None), None, [shown, talk], cancels=[answering])
    return blocks


def need_gradio() -> None:
    """Raises ConfigError when it is not installed."""
    from importlib.util import find_spec

    from xllm.errors import ConfigError

    if find_spec("gradio") is None:
        raise ConfigError("--web needs gradio: pip install 'xllm-cli[web]'")


@contextmanager
def uploads() -> Iterator[Path]:
    """A folder for all that Gradio is given, which does not outlive the page."""
    with TemporaryDirectory(prefix="xllm-web-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield Path(folder)


def launch(blocks, folder: Path, port: int | None = None) -> str:
    """Open the page, whose uploads are in `folder`, on 127.0.0.1 and return its address.

    Raises ConfigError when the port is taken.
    """
    from xllm.errors import ConfigError
    from xllm_cli.guard import LARGEST, guards

    for name in ("no_proxy", "NO_PROXY"):  # Gradio asks itself whether it is there
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
    try:
        _, url, _ = blocks.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            css=CSS,
            quiet=True,  # it would print on stdout
            prevent_thread_lock=True,
            footer_links=[],
            ssr_mode=False,
            max_file_size=LARGEST,
            app_kwargs={"middleware": guards(folder)},
        )
    except OSError as error:
        raise ConfigError(f"the page cannot be opened: {error}; choose another --port") from None
    return url


def serve(model, sampling, max_tokens: int, port: int | None) -> None:
    """Keep the page open until interrupted, or until its terminal is closed."""
    from xllm_cli.console import note

    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.default_int_handler)
    with uploads() as folder:
        blocks = page(model, sampling, max_tokens)
        note(f"{launch(blocks, folder, port)} (Ctrl-C closes it)")
        try:
            while True:
                wait(3600)
        finally:
            blocks.close(verbose=False)
