"""Connections are not held for nothing: slow heads, unread replies and too many of them are broken off."""

import asyncio
import select
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import httpx
import pytest
from serving_server import running
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from gmai_vl.serving.guard import Guard
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.record import Record

PATIENT = Limits(connections=20, body_bytes=100)
LIMITS = replace(PATIENT, header_seconds=0.5, stalled_seconds=0.5, body_seconds=0.5)
ALONE = b"GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
HEAD = b"GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


class State:
    def __init__(self):
        self.ended = threading.Event()


def serving(limits, state=None):
    async def endless(_request):
        async def pieces():
            try:
                while True:
                    yield b"x" * 2**16
                    await asyncio.sleep(0)
            finally:
                state.ended.set()

        return StreamingResponse(pieces())

    async def x(request):
        return PlainTextResponse(str(len(await request.body())))

    inner = Starlette(routes=[Route("/x", x, methods=["GET", "POST"]), Route("/endless", endless)])
    return running(guarded(inner, limits), limits=limits)


def guarded(inner, limits):
    return Guard(inner, key=None, hosts=frozenset({"127.0.0.1"}), limits=limits, record=Record(()))


@pytest.fixture
def server():
    state = State()
    with serving(LIMITS, state) as url:
        yield url, state


@pytest.fixture
def url(server):
    return server[0]


@pytest.fixture
def patient_url():
    """Of a server that waits longer than any of this takes."""
    with serving(PATIENT) as url:
        yield url


def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def read_all(connection):
    """Return what comes until the server closes; it may do so with a reset."""
    reply = b""
    try:
        while piece := connection.recv(4096):
            reply += piece
    except ConnectionResetError:
        pass
    return reply


def assert_answered(connection):
    reply = b""
    while not reply.endswith(b"\r\n\r\n0"):
        piece = connection.recv(4096)
        assert piece
        reply += piece
    assert reply.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("start", [b"", b"G", HEAD[:-2]])
def test_a_head_that_does_not_come_is_not_waited_for(url, start):
    with connected(url) as slow:
        slow.sendall(start)
        assert read_all(slow) == b""


@pytest.mark.parametrize("is_asked_together", [False, True])
def test_nor_is_a_second_one_on_the_same_connection(url, is_asked_together):
    with connected(url) as slow:
        slow.sendall(HEAD + HEAD[:-2] if is_asked_together else HEAD)
        assert_answered(slow)
        if not is_asked_together:
            slow.sendall(HEAD[:-2])
        assert read_all(slow) == b""


@pytest.mark.parametrize("before", [b"", HEAD])
def test_a_head_that_comes_in_drops_is_not_waited_for(url, before):
    with connected(url) as slow:
        slow.sendall(before)
        if before:
            assert_answered(slow)
        slow.sendall(HEAD[:-2] + b"name: ")
        try:
            while not select.select([slow], [], [], 0.02)[0]:
                slow.sendall(b"x")
        except (ConnectionResetError, BrokenPipeError):
            return
        assert read_all(slow) == b""


def test_a_head_in_many_parts_is_answered(patient_url):
    with connected(patient_url) as one:
        for byte in HEAD:
            one.sendall(bytes([byte]))
        assert_answered(one)


def test_requests_one_behind_the_other_are_answered_each(patient_url):
    with connected(patient_url) as one:
        one.sendall(HEAD * 50 + ALONE)
        assert read_all(one).count(b"HTTP/1.1 200 OK") == 51


def test_many_connections_at_once_are_answered():
    with serving(replace(PATIENT, connections=300)) as url, ExitStack() as entered:
        held = [entered.enter_context(connected(url)) for _ in range(300)]
        for connection in reversed(held):
            connection.sendall(ALONE)
        assert all(read_all(connection).startswith(b"HTTP/1.1 200") for connection in held)


def test_connections_beyond_the_limit_are_closed_and_the_others_answered(patient_url):
    with ExitStack() as entered:
        held = [entered.enter_context(connected(patient_url)) for _ in range(300)]
        assert not any(map(read_all, held[PATIENT.connections :]))
        for connection in held[: PATIENT.connections]:
            connection.sendall(ALONE)
            assert read_all(connection).startswith(b"HTTP/1.1 200")
    assert httpx.get(f"{patient_url}/x").status_code == 200  # the places are free again


def test_a_reply_that_is_not_read_is_given_up(server):
    url, state = server
    with connected(url) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(HEAD.replace(b"/x", b"/endless"))
        assert state.ended.wait(60)
    assert httpx.get(f"{url}/x").status_code == 200


def narrow(limits):
    """Serve replies of any size; the system takes little of them at once."""

    async def large(request):
        return PlainTextResponse("x" * int(request.path_params["size"]))

    app = guarded(Starlette(routes=[Route("/{size}", large)]), limits)
    return running(app, limits=limits, send_buffer=4096)


def asking_for(url, size):
    reader = socket.socket()
    reader.settimeout(30)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = url.removeprefix("http://").split(":")
    reader.connect((host, int(port)))
    reader.sendall(HEAD.replace(b"/x", f"/{size}".encode()))
    return reader


def test_a_reply_that_is_read_slowly_comes_whole():
    """It takes longer than a client may leave it unread; the other requests are what takes the time."""
    began = time.monotonic()
    with narrow(LIMITS) as url, asking_for(url, 1_000_000) as reader:
        reply = b""
        while not reply.endswith(b"\r\n\r\n"):
            reply += reader.recv(1)
        left = 1_000_000
        while left:
            if time.monotonic() - began < 3 * LIMITS.stalled_seconds:
                assert httpx.get(f"{url}/1").text == "x"
            piece = reader.recv(8192)
            assert piece, f"cut off {left} bytes before its end"
            left -= len(piece)


def test_the_rest_of_a_reply_is_not_kept_for_ever():
    """So little of it is left that the server was never told to stop writing. Its place is free in the end."""
    began = time.monotonic()
    with narrow(replace(LIMITS, connections=1)) as url, asking_for(url, 60_000):
        while True:
            assert time.monotonic() - began < 60, "the connection is still held"
            try:
                assert httpx.get(f"{url}/1").text == "x"
                return
            except httpx.TransportError:
                pass


def test_who_is_refused_while_still_sending_reads_why(patient_url):
    with connected(patient_url) as sending:
        sending.sendall(b"POST /x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 200000\r\n\r\n" + b"x" * 1000)
        assert sending.recv(4096).startswith(b"HTTP/1.1 413")
        sending.sendall(b"x" * 199_000 + ALONE)
        assert b"HTTP/1.1 200" in read_all(sending)


@pytest.mark.parametrize(("length", "status"), [(b"100", b"100"), (b"101", b"413")])
def test_who_asks_before_sending_is_told_what_is_too_long(patient_url, length, status):
    with connected(patient_url) as asking:
        head = b"POST /x HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\ncontent-length: "
        asking.sendall(head + length + b"\r\n\r\n")
        assert asking.recv(4096).startswith(b"HTTP/1.1 " + status)


def test_who_goes_on_sending_for_ever_is_broken_off(url):
    with connected(url) as sending:
        sending.sendall(b"POST /x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99999999\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                sending.sendall(b"x" * 10)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
        b"NONSENSE\r\n\r\n",
        b"GET /x HTTP/1.1\r\nhost 127.0.0.1\r\n\r\n",
        HEAD.replace(b"/x", b"/\0"),
        HEAD[:-2] + b"content-length: x\r\n\r\n",
        HEAD[:-2] + b"content-length: -1\r\n\r\n",
        HEAD[:-2] + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        HEAD[:-2] + b"transfer-encoding: gzip\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(patient_url, garbage):
    with connected(patient_url) as odd:
        odd.sendall(garbage)
        assert read_all(odd)[:11] in (b"HTTP/1.1 40", b"HTTP/1.1 50")
    assert httpx.get(f"{patient_url}/x").status_code == 200


@pytest.mark.parametrize("head", [b"x" * 2**21, HEAD[:-2] + b"a: b\r\n" * 2**18, HEAD[:-2] + b"a: " + b"x" * 2**21])
def test_a_head_without_end_is_refused(patient_url, head):
    """The client may not get to read the answer: what it sends is not read to its end."""
    with connected(patient_url) as odd:
        try:
            odd.sendall(head + b"\r\n\r\n")
        except (ConnectionResetError, BrokenPipeError):
            pass
        else:
            assert read_all(odd)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
    assert httpx.get(f"{patient_url}/x").status_code == 200
