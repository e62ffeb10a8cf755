"""`xllm chat --web`: a page to show pictures, films and sound, and to ask about them; on this machine only."""

import os
from collections.abc import Iterator
from pathlib import Path

EXPLAINED = "Drop a picture or a film and ask about it, or ask by microphone. All stays on this machine."


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


def respond(talk, message: dict, sampling, max_tokens: int) -> Iterator[list[dict]]:
    """The new messages of one turn, as the answer grows; errors become an answer, and the conversation goes on.

    `message` is what was typed ("text") and the files given with it ("files").
    """
    from xllm.errors import XLLMError

    text, files = (message.get("text") or "").strip(), message.get("files") or []
    turn = [{"role": "user", "content": {"path": path}} for path in files]
    if text:
        turn.append({"role": "user", "content": text})
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
            yield [*turn, {"role": "assistant", "content": answer}]
    except XLLMError as error:
        yield [*turn, {"role": "assistant", "content": f"⚠ {error}"}]


def page(model, sampling, max_tokens: int):
    """The page, as a Gradio application that is not started yet."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    from xllm.chat import Conversation

    def answer(message: dict, shown: list[dict], talk):
        talk = talk or Conversation(model)
        for turn in respond(talk, message, sampling, max_tokens):
            yield [*shown, *turn], {"text": "", "files": []}, talk

    with gr.Blocks(title="xllm", analytics_enabled=False, fill_height=True) as blocks:
        talk = gr.State(None)
        shown = gr.Chatbot(
            show_label=False,
            placeholder=EXPLAINED,
            scale=1,
            height=None,
            buttons=["copy"],  # the button to share would upload the conversation
            feedback_options=None,
            render_markdown=False,
        )
        typed = gr.MultimodalTextbox(
            show_label=False,
            placeholder="这是什么？",
            file_count="multiple",
            file_types=["image", "video", "audio"],
            sources=["upload", "microphone"],
            autofocus=True,
        )
        typed.submit(answer, [typed, shown, talk], [shown, typed, talk])
        shown.clear(lambda: None, None, talk)
    return blocks


def serve(model, sampling, max_tokens: int, port: int | None) -> None:
    """Open the page on 127.0.0.1 until interrupted; raises ConfigError when gradio or the port is not there."""
    from xllm.errors import ConfigError

    try:
        blocks = page(model, sampling, max_tokens)
    except ImportError:
        raise ConfigError("--web needs gradio: pip install 'xllm-cli[web]'") from None
    try:
        blocks.launch(server_name="127.0.0.1", server_port=port, share=False, footer_links=[], ssr_mode=False)
    except OSError as error:
        raise ConfigError(f"the page cannot be opened: {error}; choose another --port") from None
