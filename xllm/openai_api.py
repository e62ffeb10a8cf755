"""One request to a server that speaks the OpenAI protocol: the reply, or why there is none and what that means."""

import hashlib
import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import openai

from xllm.errors import ConfigError

CONNECT = 10.0  # seconds for a server to take the call; its answer may last longer
LONGEST_ASKED = 120.0  # seconds that a server may ask to wait for, as in the openai package
SHOWN = 300  # characters of a server's message
NO_KEY = "no API key: export OPENAI_API_KEY=... (a server without keys takes any word)"
HINTS = {401: "; check OPENAI_API_KEY", 404: "; check the name of the model and the server's address"}


@dataclass(frozen=True)
class Chat:
    """One request: messages (role, content) to a model. What is None is not sent.

    `number` tells several samples of one request apart; the seed that is sent is `seed + number`.
    """

    model: str
    messages: tuple[tuple[str, str], ...]
    temperature: float | None = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    number: int = 0

    @property
    def key(self) -> str:
        """SHA-256 in hexadecimal over all of it. The server's address is no part of it."""
        temperature = None if self.temperature is None else float(self.temperature)
        parts = [self.model, self.messages, temperature, self.seed, self.max_tokens, self.number]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """Of one try: the `text` of the reply, or else `why` there is none.

    `tokens` (in, out) are None when no whole reply came. A failure may be worth a `retry`, for which the server asks
    to `wait` so many seconds; one that `closes` would meet every other request to the same model.
    """

    text: str = ""
    why: str = ""
    tokens: tuple[int, int] | None = None
    retry: bool = False
    wait: float = 0.0
    closes: bool = False


class API:
    """The server at `base_url`, with `api_key`; the package reads OPENAI_BASE_URL and OPENAI_API_KEY for None.

    `timeout` is seconds without a byte of the reply. Raises ConfigError without a key or a usable address; connects to
    nothing yet.
    """

    def __init__(self, base_url: str | None, api_key: str | None, timeout: float):
        self.timeout = timeout
        # Tries are counted and limited by the caller, so the package must not retry on its own. A redirect would take
        # the key along to where nobody has sent it.
        try:
            self._client = openai.OpenAI(
                base_url=base_url,
                api_key=api_key,
                max_retries=0,
                timeout=openai.Timeout(timeout, connect=min(CONNECT, timeout)),
                http_client=openai.DefaultHttpxClient(follow_redirects=False),
            )
            address = urlsplit(str(self._client.base_url))
        except openai.OpenAIError:
            raise ConfigError(NO_KEY) from None
        except Exception:  # InvalidURL of the HTTP package, which is another one in each version of openai
            address = urlsplit("")
        if address.scheme not in ("http", "https") or not address.hostname or address.query:  # the package breaks it
            raise ConfigError("no usable address: set OPENAI_BASE_URL to the server's, like http://127.0.0.1:8000/v1")
        key = self._client.api_key
        if not key:
            raise ConfigError(NO_KEY)
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError("OPENAI_API_KEY has characters that no key has: export it again")
        # Without user and password.
        self.url = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}"

    def call(self, chat: Chat, key: str) -> Outcome:
        """One try under the idempotency `key`."""
        seed = None if chat.seed is None else chat.seed + chat.number
        options = {"temperature": chat.temperature, "seed": seed, "max_tokens": chat.max_tokens}
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=chat.model,
                messages=[{"role": role, "content": _clean(content)} for role, content in chat.messages],
                extra_headers={"Idempotency-Key": key},
                **{name: value for name, value in options.items() if value is not None},
            )
        except openai.APITimeoutError:
            return self._failed(f"no reply within {self.timeout:g} s", retry=True)
        except openai.APIConnectionError as error:
            return self._failed(f"no connection: {error.__cause__ or error}", retry=True)
        except openai.APIStatusError as error:
            return self._refused(error)
        return _read(chat, raw.content)

    def _failed(self, why: str, **more: Any) -> Outcome:
        """In one line, without the key, which a server may repeat; what is shorter is a word like `none`."""
        key = self._client.api_key
        why = why.replace(key, "***") if len(key) >= 8 else why
        return Outcome(why=" ".join(_clean(why).split())[:SHOWN], **more)

    def _refused(self, error: openai.APIStatusError) -> Outcome:
        status, why, headers = error.status_code, error.message, error.response.headers
        if 300 <= status < 400:
            place = headers.get("location")
            return self._failed(f"a redirect ({status}) to {place}; if you trust it, set OPENAI_BASE_URL", closes=True)
        if status in HINTS:
            return self._failed(why + HINTS[status], closes=True)
        if error.code == "insufficient_quota":  # OpenAI's 429 for an account without money
            return self._failed(why, closes=True)
        wait = _retry_after(headers.get("retry-after", ""))
        if wait > LONGEST_ASKED:
            return self._failed(f"it asks to wait {wait:.0f} s, start again then: {why}", closes=True)
        return self._failed(why, retry=status in (408, 409, 429) or status >= 500, wait=wait)


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON can carry and no file or request can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _read(chat: Chat, body: bytes) -> Outcome:
    """A whole reply; a token a byte is counted where its usage is not stated, the most there can be."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        reply = None
    try:
        choice = reply["choices"][0]
        text, end = choice["message"]["content"], choice.get("finish_reason")
    except (LookupError, TypeError, AttributeError):
        text = end = None
    text = _clean(text) if isinstance(text, str) else ""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else [None]
    if not all(isinstance(count, int) and count >= 0 for count in tokens):
        tokens = [sum(len(_clean(content).encode()) for _, content in chat.messages), len(text.encode())]
    if not text.strip():
        why = "the reply is empty" if isinstance(reply, dict) else "the reply is not JSON of a chat"
        return Outcome(why=why, tokens=tuple(tokens), retry=True)
    if end == "length" and chat.max_tokens is None:
        return Outcome(why="the server cut the reply off at a limit of its own; raise it there", tokens=tuple(tokens))
    return Outcome(text=text, tokens=tuple(tokens))


def _retry_after(value: str) -> float:
    """Seconds in a Retry-After header, a number or a date; 0 when it says nothing."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
