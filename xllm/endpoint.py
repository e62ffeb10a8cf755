"""Many requests to a chat endpoint at once, each reply on disk before anybody hears of it.

A process killed at any moment never asks again for what it has kept. What was on its way is asked again with the same
Idempotency-Key, so that a server that honours the header does the work, and bills it, once.
"""

import hashlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from xllm.errors import ConfigError, Unavailable, XLLMError
from xllm.openai_api import API, Chat
from xllm.openai_reply import Outcome
from xllm.text_cache import TextCache

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds between tries, doubling, as in the openai package


class Endpoint:
    """An OpenAI-compatible server and the replies it gave, one file each, in a folder of its address in `cache`.

    `calls` counts tries, `cached` the replies that were in the folder, and `cost` is what this object's calls cost at
    `prices` per million tokens (in, out), None without prices. Never are more than `max_calls` made, and none starts
    once `cost` has reached `max_cost`: what those then on their way cost comes on top. A failed request is tried
    `tries` times, after waits that double and are never shorter than the server's Retry-After.
    """

    def __init__(
        self,
        cache: Path,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        concurrency: int = 8,
        max_calls: int | None = None,
        max_cost: float | None = None,
        prices: tuple[float, float] | None = None,
        timeout: float = 300.0,
        tries: int = 6,
        sleep: Callable[[float], object] = time.sleep,
    ):
        """Address and key are OPENAI_BASE_URL and OPENAI_API_KEY of the environment unless given.

        `timeout` is seconds without a byte of a reply, `sleep` how a thread waits between tries. Raises ConfigError
        without a key, or for an address or a limit that makes no sense; connects to nothing yet.
        """
        if concurrency < 1 or tries < 1:
            raise ConfigError("concurrency and tries must be at least 1")
        if max_cost is not None and prices is None:
            raise ConfigError("a limit on the cost needs the prices of a million tokens in and out")
        self._api = API(base_url, api_key, timeout)
        self.url = self._api.url
        self.calls = self.cached = 0
        self.cost = None if prices is None else 0.0
        self._prices, self._max_calls, self._max_cost = prices, max_calls, max_cost
        self._concurrency, self._tries, self._sleep = concurrency, tries, sleep
        # The same name may be another model elsewhere. Hashed, as an address may tell more than a folder should.
        self._replies = TextCache(Path(cache) / hashlib.sha256(self.url.encode()).hexdigest()[:16])
        self._slots = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()  # of all that follows from calls
        self._closed: dict[str, XLLMError] = {}  # models that would refuse every request, and why

    def refused(self, model: str) -> list[str]:
        """Parameters of requests to `model` that the server did not take, so that they were not sent as asked."""
        return self._api.refused(model)

    def ask(self, chats: Sequence[Chat]) -> Iterator[tuple[int, str | XLLMError]]:
        """Each request's index and its reply, or why there is none, in the order in which they come.

        At most `concurrency` calls are on their way; equal requests are asked once. When the caller leaves early
        nothing more is sent; what is on its way is not waited for, and is kept if the process lives to see it.
        """
        places: dict[str, list[int]] = {}
        for index, chat in enumerate(chats):
            places.setdefault(chat.key, []).append(index)
        waiting = deque((key, chats[indices[0]]) for key, indices in places.items())
        done: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        stopped = threading.Event()

        def work() -> None:
            while not stopped.is_set():
                try:
                    key, chat = waiting.popleft()
                except IndexError:
                    return
                try:
                    done.put((key, self._reply(key, chat, stopped)))
                except BaseException as error:  # the caller raises it, if it is none of ours
                    done.put((key, error))

        for _ in range(min(self._concurrency, len(places))):
            # Not an executor: Python waits for its threads at exit, and a server that hangs would hold it.
            threading.Thread(target=work, name="xllm-endpoint", daemon=True).start()
        try:
            for _ in range(len(places)):
                key, outcome = done.get()
                if isinstance(outcome, BaseException) and not isinstance(outcome, XLLMError):
                    raise outcome
                for index in places[key]:
                    yield index, outcome
        finally:
            stopped.set()

    def _reply(self, key: str, chat: Chat, stopped: threading.Event) -> str | XLLMError | None:
        """The reply, which then is in the cache, or why there is none; None if `stopped` meanwhile."""
        if (text := self._replies.get(key)) is not None:
            with self._lock:
                self.cached += 1
            return text
        outcome, header, number = Outcome(), key, 0
        while number < self._tries:
            if number:
                doubling = min(FIRST_WAIT * 2 ** (number - 1), LONGEST_WAIT)
                self._sleep(max(outcome.wait, doubling * random.uniform(0.75, 1)))
            with self._slots:  # several `ask` may share them
                if stopped.is_set():
                    return None
                if refusal := self._begin(chat):
                    return refusal
                outcome = self._api.call(chat, header)
            if outcome.again:
                continue
            number += 1
            if outcome.tokens is not None:
                self._spend(outcome.tokens)
                header = f"{key}-{number}"  # the same one would bring the same unusable reply again
            if not outcome.retry:
                break
        if outcome.text:
            try:
                self._replies.put(key, outcome.text, request=asdict(chat), tokens=outcome.tokens)
            except XLLMError as error:  # more replies would be paid for and lost
                self._closed[chat.model] = error
                raise
            return outcome.text
        after = f" ({self._tries} tries)" if outcome.retry else ""
        gone = outcome.closes or outcome.retry and outcome.tokens is None
        error = (Unavailable if gone else XLLMError)(f"{self.url}: {outcome.why}{after}")
        if outcome.closes:
            self._closed[chat.model] = error
        return error

    def _begin(self, chat: Chat) -> XLLMError | None:
        """Count a call, or say why there must be none."""
        with self._lock:
            if chat.model in self._closed:
                return self._closed[chat.model]
            if self._max_calls is not None and self.calls >= self._max_calls:
                return Unavailable(f"not asked: the limit of {self._max_calls} calls is reached")
            if self._max_cost is not None and self.cost >= self._max_cost:
                return Unavailable(f"not asked: {self.cost:.4g} is spent, the limit on the cost is {self._max_cost:g}")
            self.calls += 1
        return None

    def _spend(self, tokens: tuple[int, int]) -> None:
        if self._prices is not None:
            with self._lock:
                self.cost += sum(count * price for count, price in zip(tokens, self._prices, strict=True)) / 1e6
