"""What stands before the page: requests of its own origin pass, those of others and too large ones do not."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from xllm_cli import guard


@pytest.fixture
def page(tmp_path):
    async def answer(request):
        return PlainTextResponse(str(len(await request.body())))

    routes = [Route("/", answer, methods=["GET", "POST"])]
    return TestClient(Starlette(routes=routes, middleware=guard.guards(tmp_path)), "http://127.0.0.1:7860")


@pytest.mark.parametrize(
    "host, code",
    [
        ("127.0.0.1:7860", 200),
        ("localhost:9000", 200),  # through `ssh -L 9000:127.0.0.1:7860`
        ("[::1]:7860", 200),
        ("evil.example:7860", 400),  # a name that was made to lead here
        ("127.0.0.1.evil.example", 400),
        ("", 400),
    ],
)
def test_only_the_names_of_this_machine_are_served(page, host, code):
    assert page.get("/", headers={"host": host}).status_code == code


@pytest.mark.parametrize(
    "origin, code",
    [
        ("http://127.0.0.1:7860", 200),
        (None, 200),  # no browser, or a browser's own GET
        ("http://127.0.0.1:3000", 403),
        ("http://localhost:7860", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_origins_are_refused(page, origin, code):
    headers = {"origin": origin} if origin else {}
    assert page.post("/", content=b"x", headers=headers).status_code == code
    assert page.get("/", headers=headers).status_code == code


def test_uploads_are_bounded_each_and_together(page, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "LARGEST", 100), monkeypatch.setattr(guard, "KEPT", 150)
    assert page.post("/", content=b"x" * 100).text == "100"
    assert page.post("/", content=b"x" * 101).status_code == 413
    assert page.post("/", content=iter([b"x" * 101])).status_code == 411
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 60)
    assert page.post("/", content=b"x" * 90).status_code == 200
    assert page.post("/", content=b"x" * 91).status_code == 507
    assert page.get("/").status_code == 200


def test_a_browser_is_told_to_fetch_nothing_from_elsewhere(page):
    for reply in (page.get("/"), page.get("/", headers={"origin": "http://evil.example"})):
        rules = reply.headers["content-security-policy"].split("; ")
        assert rules[0].startswith("default-src 'self'") and "frame-ancestors 'none'" in rules
        assert not any("http" in rule or "*" in rule for rule in rules)
