"""The guard lets through what may pass, tells the rest why, and takes in no more than there is room for."""

import asyncio
import http.client
import json
import logging
import select
import socket
import threading
from contextlib import ExitStack
from dataclasses import replace

import httpx
import pytest
from serving_server import running
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from gmai_vl.serving.guard import Guard
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.record import Record
from gmai_vl.serving.refusals import Refusal

LIMITS = Limits(body_bytes=1000, bodies_bytes=1500, upload_bytes=5000)
HASTY = replace(LIMITS, body_seconds=0.3)
KEY = "a key of some length"
HEAD = "POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\n"


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


async def endless(request: Request) -> StreamingResponse:
    """Stream until the client has gone, and tell."""

    async def pieces():
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            request.app.state.ended.set()

    assert await request.body() == b"asked"
    return StreamingResponse(pieces())


async def failing(request: Request) -> JSONResponse:
    raise RuntimeError("a secret")


async def failing_later(request: Request) -> StreamingResponse:
    async def pieces():
        yield b"one"
        raise RuntimeError("a secret")

    return StreamingResponse(pieces())


async def refused(_request: Request, refusal: Refusal) -> JSONResponse:
    return JSONResponse(refusal.body(), refusal.status, headers=refusal.headers)


def app(key=None, limits=LIMITS, record=None):
    """An application around which the guard stands as it does around the server's own."""
    paths = ["/", "/v1/x", "/demo/studies", "/health", "/page/a.js"]
    routes = [Route(path, echo, methods=["GET", "POST"]) for path in paths]
    others = {"/twice": twice, "/call": call, "/failing": failing, "/failing-later": failing_later}
    routes += [Route(path, answer) for path, answer in others.items()]
    hosts = frozenset({"127.0.0.1", "[::1]", "name.example"})
    guard = Middleware(Guard, key=key, hosts=hosts, limits=limits, record=record or Record(()))
    routes.append(Route("/endless", endless, methods=["POST"]))
    whole = Starlette(routes=routes, middleware=[guard], exception_handlers={Refusal: refused})
    whole.state.called, whole.state.ended = asyncio.Event(), threading.Event()
    return whole


@pytest.fixture
def url():
    with running(app(), limits=LIMITS) as address:
        yield address


def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head_of_reply(connection):
    reply = b""
    while b"\r\n\r\n" not in reply and (piece := connection.recv(4096)):
        reply += piece
    return reply.decode()


def raw(url, text, *, more=b""):
    """Send bytes as they are and return all that comes until the server closes or has answered."""
    with connected(url) as connection:
        connection.sendall(text.encode() + more)
        return head_of_reply(connection)


def errors():
    """Return a list to which the log of the server that runs adds; it passes nothing on to the root of all logs."""
    told = []

    class Keep(logging.Handler):
        def emit(self, record):
            told.append(record)

    logging.getLogger("uvicorn.error").addHandler(Keep(logging.WARNING))  # the next server begins with none
    return told


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


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /v1/x HTTP/1.0\r\n", 403),  # without a name, which only HTTP/1.0 allows
        ("GET /v1/x HTTP/1.1\r\n", 400),
        ("GET /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: evil.example\r\n", 400),
        ("GET /v1/x HTTP/1.1\r\nhost: [::1\r\n", 200),
        ("GET http://evil.example/v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\n", 404),
    ],
)
def test_odd_names_do_not_pass_for_its_own(url, head, status):
    assert raw(url, f"{head}\r\n").startswith(f"HTTP/1.1 {status}")


def test_what_is_no_http_is_told_in_the_form_of_everything_else(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"this is <no> request\r\n\r\n")
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert (reply.status, reply.getheader("content-type")) == (400, "application/json")
        told = json.loads(reply.read())["error"]
    assert told == {
        "message": "this is no request in HTTP/1.1",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_refusals_are_counted():
    record = Record(())
    with running(app(KEY, record=record), limits=LIMITS) as url:
        for _ in range(2):
            httpx.get(f"{url}/v1/x")
        httpx.get(f"{url}/v1/x", headers={"host": "evil.example"})
        httpx.get(f"{url}/failing", headers={"authorization": f"Bearer {KEY}"})
    told = record.metrics().decode()
    for status, count in ((401, 2), (403, 1), (500, 1)):
        assert f'gmai_refusals_total{{status="{status}"}} {count}.0' in told


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:1"])
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
        assert httpx.post(f"{url}/demo/studies", headers={"authorization": f"Bearer {KEY}"}).status_code == 200


def test_a_request_without_its_key_is_answered_before_its_body_comes():
    with running(app(KEY), limits=LIMITS) as url:
        assert raw(url, HEAD + "content-length: 900\r\n\r\n").startswith("HTTP/1.1 401")


def test_a_key_may_have_any_letters():
    with running(app("schlüssel für 医生"), limits=LIMITS) as url:
        for given, status in {"schlüssel für 医生": 200, "schlussel fur 医生": 401, "\xff": 401}.items():
            words = {"authorization": f"Bearer {given}".encode()}
            assert httpx.get(f"{url}/v1/x", headers=words).status_code == status


def test_what_is_announced_too_long_is_refused_unread(url):
    head = HEAD + "content-length: 1001\r\n\r\n"
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

    def pieces():
        for _ in range(51):
            yield b"x" * 100

    assert httpx.post(f"{url}/demo/studies", content=pieces()).status_code == 413


@pytest.mark.parametrize("path", ["/v1/x", "/demo/studies"])
@pytest.mark.parametrize("kind", ["content-length: 900", "transfer-encoding: chunked"])
def test_a_body_that_does_not_come_is_not_waited_for(path, kind):
    with running(app(limits=HASTY), limits=HASTY) as url:
        head = f"{HEAD}{kind}\r\n\r\n".replace("/v1/x", path)
        assert raw(url, head).startswith("HTTP/1.1 408")
        assert raw(url, head, more=b"1\r\nx\r\n").startswith("HTTP/1.1 408")


def test_nor_is_one_that_comes_in_drops():
    with running(app(limits=HASTY), limits=HASTY) as url, connected(url) as slow:
        slow.sendall(f"{HEAD}content-length: 999\r\n\r\n".encode())
        for _ in range(998):
            if select.select([slow], [], [], 0.02)[0]:
                break
            slow.sendall(b"x")
        assert head_of_reply(slow).startswith("HTTP/1.1 408")


def test_all_bodies_together_have_a_limit(url):
    with connected(url) as one, connected(url) as other:
        for connection in (one, other):
            connection.sendall(f"{HEAD}content-length: 1000\r\n\r\n".encode() + b"x" * 999)
        (refused,), *_ = select.select([one, other], [], [], 30)
        reply = head_of_reply(refused)
        assert reply.startswith("HTTP/1.1 429")
        assert "\r\nretry-after: " in reply
        waiting = one if refused is other else other
        assert httpx.post(f"{url}/demo/studies", content=b"x" * 5000).json() == {"length": 5000}  # not among them
        assert httpx.get(f"{url}/v1/x").status_code == 200
        waiting.sendall(b"x")
        assert head_of_reply(waiting).startswith("HTTP/1.1 200")
    assert httpx.post(f"{url}/v1/x", content=b"x" * 900).json() == {"length": 900}


@pytest.mark.parametrize(
    ("end", "is_read"),
    [
        (b"1\r\n", True),  # waits for what does not come
        (b"3e9\r\n" + b"x" * 1001, True),
        (b"no chunk\r\n", True),
        (b"", False),
        (b"0\r\n\r\n", False),
    ],
)
def test_what_a_body_held_is_free_however_it_ends(end, is_read):
    with running(app(limits=HASTY), limits=HASTY) as url:
        with ExitStack() as entered:
            several = [entered.enter_context(connected(url)) for _ in range(4)]
            for connection in several:
                head = f"{HEAD}transfer-encoding: chunked\r\n\r\n15e\r\n"
                connection.sendall(head.encode() + b"x" * 350 + b"\r\n" + end)
            if is_read:
                assert all(head_of_reply(connection).startswith("HTTP/1.1 4") for connection in several)
        # There would be no room, had they kept theirs; the last may have it for a moment more.
        assert any(httpx.post(f"{url}/v1/x", content=b"x" * 1000).status_code == 200 for _ in range(1000))


@pytest.mark.parametrize("kind", ["content-length: 10", "transfer-encoding: chunked"])
def test_a_client_that_leaves_is_no_error(kind):
    with running(app(), limits=LIMITS) as url:
        told = errors()
        for _ in range(3):
            with connected(url) as leaving:
                leaving.sendall(f"{HEAD}{kind}\r\n\r\n1\r\n".encode())
        assert httpx.post(f"{url}/v1/x", content=b"x").json() == {"length": 1}
        assert httpx.get(f"{url}/failing").status_code == 500  # so that an error would be seen
    assert len(told) == 1


def test_a_stream_ends_when_its_client_leaves():
    whole = app()
    with running(whole, limits=LIMITS) as url:
        told = errors()
        with httpx.stream("POST", f"{url}/endless", content=b"asked") as reply:
            pieces = reply.iter_raw()
            assert next(pieces).startswith(b"x")
            assert not whole.state.ended.is_set()
        assert whole.state.ended.wait(60)
    assert not told


def test_a_failure_is_told_without_its_words():
    with running(app(), limits=LIMITS) as url:
        told = errors()
        reply = httpx.get(f"{url}/failing")
        assert reply.status_code == 500
        assert reply.json()["error"]["type"] == "server_error"
        assert "secret" not in reply.text
        with pytest.raises(httpx.RemoteProtocolError):  # what has begun can only be broken off
            httpx.get(f"{url}/failing-later")
        assert httpx.get(f"{url}/v1/x").status_code == 200
    assert len(told) == 2


def test_a_stream_passes_piece_by_piece(url):
    with httpx.stream("GET", f"{url}/twice") as reply:
        pieces = reply.iter_raw()
        assert next(pieces) == b"one"  # the second is not sent before the next request
        assert httpx.get(f"{url}/call").status_code == 200
        assert next(pieces) == b"two"


def test_every_reply_has_the_headers_that_keep_a_browser_safe(url):
    replies = {
        200: [httpx.get(url + path) for path in ("/", "/page/a.js", "/v1/x", "/health")],
        404: [httpx.get(f"{url}/nowhere"), httpx.get(f"{url}/page/nowhere")],
        405: [httpx.put(f"{url}/v1/x")],
        403: [httpx.get(f"{url}/v1/x", headers={name: "evil.example"}) for name in ("host", "origin")],
        413: [httpx.post(url + path, content=b"x" * 5001) for path in ("/v1/x", "/demo/studies")],
        500: [httpx.get(f"{url}/failing")],
    }
    for status, several in replies.items():
        for reply in several:
            assert reply.status_code == status
            headers, path = reply.headers, reply.url.path
            is_page = path == "/" or path.startswith("/page/")
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["cache-control"] == ("no-cache" if is_page else "no-store")
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert ("script-src 'self'" in policy) == is_page
            assert "access-control-allow-origin" not in headers


def test_the_guards_own_refusals_have_them_and_the_form_of_errors():
    with running(app(KEY, HASTY), limits=HASTY) as url:
        slow = HEAD + f"authorization: Bearer {KEY}\r\ncontent-length: 9\r\n\r\n"
        assert "\r\nx-content-type-options: nosniff\r\n" in raw(url, slow)
        reply = httpx.get(f"{url}/v1/x")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert json.loads(reply.text)["error"]["type"] == "authentication_error"
