"""What a whole reply of a server that speaks the OpenAI protocol says: its text, or why there is none."""

import json
from dataclasses import dataclass
from typing import Any

from xllm.thoughts import after_thoughts

# What closes a model to every other request, with what to do.
HINTS = {401: "; check OPENAI_API_KEY", 404: "; check the name of the model and the server's address"}


@dataclass(frozen=True)
class Outcome:
    """Of one try: the `text` of the reply, or else `why` there is none.

    `tokens` (in, out) are None when no whole reply came. A failure may be worth a `retry`, for which the server asks
    to `wait` so many seconds, or be one of words that the next request avoids, so that it is to be sent `again` and was
    no try; one that `closes` would meet every other request to the same model.
    """

    text: str = ""
    why: str = ""
    tokens: tuple[int, int] | None = None
    retry: bool = False
    wait: float = 0.0
    again: bool = False
    closes: bool = False


def failed(why: str, status: int | None, code: Any = None, **more: Any) -> Outcome:
    """What an error means that a server states with an HTTP status or a code; one with neither may pass."""
    if status in HINTS:
        return Outcome(why=why + HINTS[status], closes=True, **more)
    if code == "insufficient_quota":  # OpenAI's 429 for an account without money
        return Outcome(why=why, closes=True, **more)
    return Outcome(why=why, retry=status is None or status in (408, 409, 429) or status >= 500, **more)


def read(body: bytes, sent: int, limited: bool) -> Outcome:
    """A reply to a request of `sent` bytes of text, whose length was `limited` by us.

    A token a byte is counted where its usage is not stated, the most there can be.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        return Outcome(why="the reply is not JSON of a chat", tokens=(sent, 0), retry=True)
    choices = reply.get("choices")
    choice = _dict(choices[0]) if isinstance(choices, list) and choices else {}
    text, refusal = _content(_dict(choice.get("message")))
    tokens, end = _tokens(_dict(reply.get("usage")), sent, text), str(choice.get("finish_reason"))
    if error := reply.get("error") or choice.get("error"):
        return _error(error, tokens)
    if refusal:
        return Outcome(why=f"the model refuses to reply: {refusal}", tokens=tokens)
    if end.startswith("content_filter"):
        return Outcome(why="the server's content filter stopped the reply", tokens=tokens)
    spoken = bool(after_thoughts(text).strip())
    if end == "length" and not spoken:
        return Outcome(why="the reply was cut off at its length, before any text; raise the limit", tokens=tokens)
    if end == "length" and not limited:
        return Outcome(why="the server cut the reply off at a limit of its own; raise it there", tokens=tokens)
    if not spoken:
        why = "nothing but thoughts" if text.strip() else "empty" if choice else "without choices"
        return Outcome(why=f"the reply is {why}", tokens=tokens, retry=True)
    return Outcome(text=text, tokens=tokens)


def clean(text: str) -> str:
    """Without lone surrogates, which JSON can carry and no file or request can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _content(message: dict) -> tuple[str, str]:
    """Text and refusal; of a content in parts what is text (thoughts, sources and the like are parts, too)."""
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    parts = [_dict(part) for part in parts] if isinstance(parts, list) else []

    def joined(kinds: tuple[str, ...], field: str) -> str:
        texts = (part.get(field) for part in parts if part.get("type") in kinds)
        return clean("".join(text for text in texts if isinstance(text, str)))

    refusal = message.get("refusal")
    refusal = clean(refusal) if isinstance(refusal, str) else joined(("refusal",), "refusal")
    return joined(("text", "output_text"), "text"), refusal


def _tokens(usage: dict, sent: int, text: str) -> tuple[int, int]:
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if all(isinstance(count, int) and count >= 0 for count in counts):
        return counts
    return sent, len(text.encode())


def _error(error: Any, tokens: tuple[int, int]) -> Outcome:
    """An error that comes with HTTP status 200, as from routers and gateways; its `code` may be a status."""
    known = _dict(error)
    code, message = known.get("code"), known.get("message")
    status = int(code) if str(code).isdecimal() and len(str(code)) == 3 else None
    if status is None and known.get("type") == "invalid_request_error":
        status = 400
    why = message if isinstance(message, str) and message else json.dumps(error, ensure_ascii=False)
    return failed(f"an error instead of a reply: {why}", status, code, tokens=tokens)
