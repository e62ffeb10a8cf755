"""Who may use the page of `xllm chat --web`, and how much it takes.

Pages of other sites may not: a browser lets them send to this machine, and their names may lead here (DNS rebinding).
"""

from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost", "[::1]")  # with any port: `ssh -L` may give it another one
LARGEST = 1 << 30  # bytes of an upload
KEPT = 8 << 30  # bytes of all uploads
HEADERS = {
    # Nothing is fetched from elsewhere, whatever an answer contains, and no other page shows this one inside.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; "
    "base-uri 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def guards(uploads: Path) -> list[Middleware]:
    """What stands before the page, which keeps its uploads in this folder."""
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)
    return [hosts, Middleware(Guard, uploads=uploads)]


class Guard:
    """Refuses requests of other origins and uploads beyond the limits; tells browsers to fetch from here alone."""

    def __init__(self, app: ASGIApp, uploads: Path):
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return PlainTextResponse("a page of another site asks", 403)
        if "content-length" not in headers:
            return PlainTextResponse("of what size?", 411) if "transfer-encoding" in headers else None
        size = int(headers["content-length"])
        if size > LARGEST:
            return PlainTextResponse(f"an upload has at most {LARGEST >> 20} MB", 413)
        if method == "POST" and size + sum(f.stat().st_size for f in self.uploads.rglob("*") if f.is_file()) > KEPT:
            return PlainTextResponse(f"{KEPT >> 30} GB were uploaded already; start xllm again", 507)
        return None
