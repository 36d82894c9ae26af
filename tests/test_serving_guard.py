"""The guard lets through what may pass, tells the rest why, and takes in no more than there is room for."""

import asyncio
import http.client
import json
import socket

import httpx
import pytest
from serving_server import running
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from gmai_vl.serving.guard import Guard
from gmai_vl.serving.limits import Limits

LIMITS = Limits(body_bytes=1000, bodies_bytes=1500, upload_bytes=5000, body_seconds=0.5)
KEY = "a key of some length"


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"length": len(await request.body())})


async def twice(request: Request) -> StreamingResponse:
    """Send a piece, wait for the second request, send another."""

    async def pieces():
        yield b"one"
        await request.app.state.called.wait()
        yield b"two"

    return StreamingResponse(pieces())


async def call(request: Request) -> JSONResponse:
    request.app.state.called.set()
    return JSONResponse({})


def app(key=None):
    paths = ["/", "/v1/x", "/demo/studies", "/health", "/page/a.js"]
    routes = [Route(path, echo, methods=["GET", "POST"]) for path in paths]
    inner = Starlette(routes=[*routes, Route("/twice", twice), Route("/call", call)])
    inner.state.called = asyncio.Event()
    return Guard(inner, key=key, hosts=frozenset({"127.0.0.1", "[::1]", "name.example"}), limits=LIMITS)


@pytest.fixture
def url():
    with running(app(), limits=LIMITS) as address:
        yield address


def raw(url, text, *, more=b""):
    """Send bytes as they are and return all that comes until the server closes or has answered."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(text.encode() + more)
        reply = b""
        while b"\r\n\r\n" not in reply and (piece := connection.recv(4096)):
            reply += piece
    return reply.decode()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9", 200),
        ("NAME.example:80", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_it_answers_to_its_own_names_only(url, host, status):
    assert httpx.get(f"{url}/v1/x", headers={"host": host}).status_code == status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_others_may_not_ask(url, origin):
    reply = httpx.post(f"{url}/v1/x", headers={"origin": origin}, content=b"x")
    assert reply.status_code == 403
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert httpx.post(f"{url}/v1/x", headers={"origin": url}, content=b"x").json() == {"length": 1}


def test_a_key_is_asked_for_everywhere_but_at_the_page():
    with running(app(KEY), limits=LIMITS) as url:
        for path in ("/", "/health", "/page/a.js"):
            assert httpx.get(url + path).status_code == 200
        for given in (
            {},
            {"authorization": f"Bearer {KEY}x"},
            {"authorization": f"Basic {KEY}"},
            {"authorization": KEY},
        ):
            for path in ("/v1/x", "/demo/studies", "/nowhere", "/page", "/health/"):
                reply = httpx.get(url + path, headers=given)
                assert reply.status_code == 401, path
                assert reply.headers["www-authenticate"] == "Bearer"
        assert httpx.get(f"{url}/v1/x", headers={"authorization": f"bearer {KEY}"}).status_code == 200


def test_what_is_announced_too_long_is_refused_unread(url):
    head = "POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1001\r\n\r\n"
    assert raw(url, head).startswith("HTTP/1.1 413")  # not a byte of the body was sent
    assert raw(url, head.replace("1001", "9" * 30)).startswith("HTTP/1.1 4")


@pytest.mark.parametrize("path", ["/v1/x", "/demo/studies"])
def test_who_closes_after_one_request_reads_why_it_was_refused(url, path):
    """Such a client sends all before it reads; a connection that is closed before breaks under its hands."""
    for _ in range(5):
        client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        client.request("POST", path, b"x" * 5_000_000, {"connection": "close"})
        assert client.getresponse().status == 413
        client.close()


def test_what_was_read_of_a_refused_body_is_not_held_while_the_rest_comes(url):
    host, port = url.removeprefix("http://").split(":")
    head = b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection((host, int(port))) as refused:
        refused.sendall(head + b"3e8\r\n" + b"x" * 1000 + b"\r\n")  # as much as is taken
        refused.sendall(b"1\r\nx\r\n")
        assert refused.recv(100).startswith(b"HTTP/1.1 413")
        assert httpx.post(f"{url}/v1/x", content=b"x" * 1000).json() == {"length": 1000}


def test_what_turns_out_too_long_is_refused(url):
    def pieces():
        for _ in range(11):
            yield b"x" * 100

    assert httpx.post(f"{url}/v1/x", content=pieces()).status_code == 413
    assert httpx.post(f"{url}/v1/x", content=b"x" * 1000).json() == {"length": 1000}


def test_uploads_have_a_limit_of_their_own(url):
    assert httpx.post(f"{url}/demo/studies", content=b"x" * 5000).json() == {"length": 5000}
    assert httpx.post(f"{url}/demo/studies", content=b"x" * 5001).status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(url):
    head = "POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n"
    assert raw(url, head, more=b"x").startswith("HTTP/1.1 408")


def test_all_bodies_together_have_a_limit(url):
    host, port = url.removeprefix("http://").split(":")
    head = b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n"
    with socket.create_connection((host, int(port))) as holding:
        holding.sendall(head + b"x" * 999)
        refused = httpx.post(f"{url}/v1/x", content=b"x" * 900)
        assert refused.status_code == 429 or refused.json() == {"length": 900}  # it may come before what holds
        while refused.status_code != 429:
            refused = httpx.post(f"{url}/v1/x", content=b"x" * 900)
        assert int(refused.headers["retry-after"]) > 0
        holding.sendall(b"x")
        assert holding.recv(100).startswith(b"HTTP/1.1 200")
    assert httpx.post(f"{url}/v1/x", content=b"x" * 900).json() == {"length": 900}


def test_a_client_that_leaves_is_no_error(url, caplog):
    host, port = url.removeprefix("http://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\nxxx")
    assert httpx.post(f"{url}/v1/x", content=b"x").json() == {"length": 1}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_stream_passes_piece_by_piece(url):
    with httpx.stream("GET", f"{url}/twice") as reply:
        pieces = reply.iter_raw()
        assert next(pieces) == b"one"  # the second is not sent before the next request
        assert httpx.get(f"{url}/call").status_code == 200
        assert next(pieces) == b"two"


def test_every_reply_has_the_headers_that_keep_a_browser_safe(url):
    for path, status in {"/": 200, "/v1/x": 200, "/nowhere": 404}.items():
        headers = httpx.get(url + path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert ("script-src 'self'" in headers["content-security-policy"]) == (path == "/")
        assert "access-control-allow-origin" not in headers
        assert status
    refused = httpx.get(f"{url}/v1/x", headers={"host": "evil.example"})
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert json.loads(refused.text)["error"]["type"] == "permission_error"
