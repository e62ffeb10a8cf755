"""One request to a server that speaks the OpenAI protocol: the reply, or why there is none and what that means."""

import hashlib
import json
import logging
import re
import threading
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import openai

from xllm.errors import ConfigError
from xllm.openai_reply import Outcome, clean, failed, read

CONNECT = 10.0  # seconds for a server to take the call; its answer may last longer
LONGEST_ASKED = 120.0  # seconds that a server may ask to wait for, as in the openai package
SHOWN = 300  # characters of a server's message
NO_KEY = "no API key: export OPENAI_API_KEY=... (a server without keys takes any word)"
# Parameters that a server may refuse, and what it may take instead.
CHANGES = {"temperature": None, "seed": None, "max_tokens": "max_completion_tokens"}
UNSUPPORTED = re.compile(
    "unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|cannot find", re.I
)

logger = logging.getLogger(__name__)


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


class API:
    """The server at `base_url`, with `api_key`; the package reads OPENAI_BASE_URL and OPENAI_API_KEY for None.

    `timeout` is seconds without a byte of the reply. Raises ConfigError without a key or a usable address; connects to
    nothing yet.
    """

    def __init__(self, base_url: str | None, api_key: str | None, timeout: float):
        self.timeout = timeout
        self._changes: dict[tuple[str, str], str | None] = {}  # of model and parameter: the name that is sent
        self._lock = threading.Lock()  # of them
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
        """One try under the idempotency `key`, or one as the server wants it made."""
        sent, changed = self._parameters(chat)
        messages = [{"role": role, "content": clean(content)} for role, content in chat.messages]
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=chat.model,
                messages=messages,
                extra_headers={"Idempotency-Key": "-without-".join([key, *changed])},
                **sent,
            )
        except openai.APITimeoutError:
            return self._told(Outcome(why=f"no reply within {self.timeout:g} s", retry=True))
        except openai.APIConnectionError as error:
            return self._told(Outcome(why=f"no connection: {error.__cause__ or error}", retry=True))
        except openai.APIStatusError as error:
            outcome = self._told(_refused(error))
            if name := _refused_parameter(error, sent):
                self._change(chat.model, name, outcome.why)
                return replace(outcome, again=True)
            return outcome
        length = sum(len(message["content"].encode()) for message in messages)
        return self._told(read(raw.content, length, chat.max_tokens is not None))

    def refused(self, model: str) -> list[str]:
        """Parameters that the server did not take for a model, so that they were not sent as asked."""
        with self._lock:
            return sorted(name for refused, name in self._changes if refused == model)

    def _parameters(self, chat: Chat) -> tuple[dict[str, Any], list[str]]:
        """What is sent besides the messages, and which of that is not as asked."""
        seed = None if chat.seed is None else chat.seed + chat.number
        asked = {"temperature": chat.temperature, "seed": seed, "max_tokens": chat.max_tokens}
        asked = {name: value for name, value in asked.items() if value is not None}
        with self._lock:
            names = {name: self._changes.get((chat.model, name), name) for name in asked}
        sent = {names[name]: value for name, value in asked.items() if names[name]}
        return sent, [name for name in asked if names[name] != name]

    def _change(self, model: str, name: str, why: str) -> None:
        with self._lock:
            if (model, name) in self._changes:
                return
            self._changes[model, name] = CHANGES[name]
        instead = f"it is sent as '{CHANGES[name]}'" if CHANGES[name] else "it is not sent, the model's default holds"
        logger.warning("%s: %s does not take '%s' as asked, %s: %s", self.url, model, name, instead, why)

    def _told(self, outcome: Outcome) -> Outcome:
        """With a reason in one line, and without the key, which a server may repeat; a short one is a word."""
        key, why = self._client.api_key, outcome.why
        why = why.replace(key, "***") if len(key) >= 8 else why
        return replace(outcome, why=" ".join(clean(why).split())[:SHOWN])


def _message(error: openai.APIStatusError) -> str:
    """What the server said, also where it is not as OpenAI says it: the package then tells the number alone."""
    if " - " in error.message or not error.body:
        return error.message
    body = error.body if isinstance(error.body, str) else json.dumps(error.body, ensure_ascii=False)
    return f"{error.message} - {body}"


def _refused(error: openai.APIStatusError) -> Outcome:
    status, why, headers = error.status_code, _message(error), error.response.headers
    if 300 <= status < 400:
        place = headers.get("location")
        return Outcome(why=f"a redirect ({status}) to {place}; if you trust it, set OPENAI_BASE_URL", closes=True)
    outcome = failed(why, status, error.code, wait=_retry_after(headers.get("retry-after", "")))
    if outcome.wait > LONGEST_ASKED and not outcome.closes:
        return Outcome(why=f"it asks to wait {outcome.wait:.0f} s, start again then: {why}", closes=True)
    return outcome


def _refused_parameter(error: openai.APIStatusError, sent: dict[str, Any]) -> str | None:
    """The parameter that the server does not take, of those sent; None when the error is about something else."""
    if error.status_code not in (400, 422, 500):  # 500 from routers, which pass on what another server said
        return None
    why = _message(error)
    named = [name for name in CHANGES if name in sent and re.search(rf"\b{name}\b", why)]
    name = error.param if error.param in named else min(named, key=why.index, default=None)
    refused = UNSUPPORTED.search(why) or name == "temperature" and sent[name] == 0
    return name if refused else None


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
