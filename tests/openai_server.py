"""A chat server on this machine that speaks the OpenAI protocol: slow, failing or hostile as a test wants it."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKENS = (100, 10)  # in and out, which every whole reply reports


@dataclass
class Request:
    """What came, in the order of arrival, and what became of it.

    `delivered` is True once the whole reply is handed to the connection; a client that was killed may not have read it.
    """

    number: int
    body: dict
    headers: dict[str, str]  # lower-case names
    fault: str | None
    delivered: bool = False

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    @property
    def said(self) -> str:
        """The last message's content."""
        return self.body["messages"][-1]["content"]


class OpenAIServer:
    """`with OpenAIServer(...) as server:` answers POST {server.url}/chat/completions until the block ends.

    `reply` makes the text from the request's body, or a whole reply in bytes, after `latency` seconds. As a server that
    honours Idempotency-Key it makes one text a key, unless not `idempotent`; `made` counts them by key.
    `fault(number)` of the request in order of arrival, from 0, is None or one of: a status like "500", with `message`
    and `code`; "429", also with `retry_after` as Retry-After; "redirect" to `elsewhere`; "cut", closed in the middle of
    the body; "malformed", half a JSON; "empty", no content; "hang", no answer until the block ends.
    """

    def __init__(
        self,
        reply: Callable[[dict], str | bytes] = lambda body: "reply to " + body["messages"][-1]["content"],
        latency: float = 0.0,
        fault: Callable[[int], str | None] = lambda number: None,
        retry_after: str = "0",
        elsewhere: str = "http://127.0.0.1:1/v1/chat/completions",
        message: str = "no luck",
        code: str | None = None,
        idempotent: bool = True,
        refuse: Callable[[dict], tuple[int, dict] | None] = lambda body: None,
    ):
        self.reply, self.latency, self.fault = reply, latency, fault
        self.retry_after, self.elsewhere, self.idempotent = retry_after, elsewhere, idempotent
        self.refuse = refuse
        self.error = {"message": message, "code": code}
        self.requests: list[Request] = []
        self.made: dict[str, int] = {}
        self.most = 0  # requests that were on their way at once
        self._texts: dict[str, str | bytes] = {}
        self._making: dict[str, threading.Lock] = {}
        self._now = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def __enter__(self) -> "OpenAIServer":
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet, or the reply waits for an acknowledgement
            disable_nagle_algorithm = True

            def do_POST(self):
                owner._handle(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, block_on_close, request_queue_size = True, False, 128

            def handle_error(self, request, client_address):  # a client that was killed or did not wait
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def delivered(self) -> list[Request]:
        """Requests whose good reply went out whole."""
        return [request for request in self.requests if request.delivered]

    def _handle(self, http: BaseHTTPRequestHandler) -> None:
        raw = http.rfile.read(int(http.headers["content-length"]))
        headers = {name.lower(): value for name, value in http.headers.items()}
        with self._lock:
            number = len(self.requests)
            request = Request(number, json.loads(raw), headers, self.fault(number))
            self.requests.append(request)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            status, body = self._answer(request) if http.path.split("?")[0] == "/v1/chat/completions" else (404, b"{}")
        finally:
            with self._lock:
                self._now -= 1
        http.send_response(status)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(body)))
        if status == 429:
            http.send_header("Retry-After", self.retry_after)
        if status == 307:
            http.send_header("Location", self.elsewhere)
        http.end_headers()
        http.close_connection = request.fault in ("cut", "hang")
        http.wfile.write(body[: len(body) // 2] if request.fault in ("cut", "hang") else body)
        http.wfile.flush()
        request.delivered = status == 200 and request.fault is None

    def _answer(self, request: Request) -> tuple[int, bytes]:
        fault = request.fault
        if fault == "hang":
            self._closing.wait()
        if fault and (fault.isdecimal() or fault == "redirect"):
            status = 307 if fault == "redirect" else int(fault)
            return status, json.dumps({"error": self.error}).encode()
        if refusal := self.refuse(request.body):
            status, error = refusal
            return status, json.dumps(error).encode()
        time.sleep(self.latency)
        text = "" if fault == "empty" else self._text(request)
        if isinstance(text, bytes):
            return 200, text
        reply = {
            "id": f"chatcmpl-{request.number}",
            "object": "chat.completion",
            "created": 0,
            "model": request.body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": TOKENS[0], "completion_tokens": TOKENS[1], "total_tokens": sum(TOKENS)},
        }
        body = json.dumps(reply).encode()
        return 200, body[: len(body) // 2] if fault == "malformed" else body

    def _text(self, request: Request) -> str | bytes:
        key = request.headers.get("idempotency-key", str(request.number))
        with self._lock:
            own = threading.Lock()
            making = self._making.setdefault(key, own) if self.idempotent else own
        with making:
            if key not in self._texts or not self.idempotent:
                self._texts[key] = self.reply(request.body)
                with self._lock:
                    self.made[key] = self.made.get(key, 0) + 1
            return self._texts[key]
