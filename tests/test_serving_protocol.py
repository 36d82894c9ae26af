"""Connections are not held for nothing: slow heads, unread replies and too many of them are broken off."""

import asyncio
import socket
import threading
import time
from dataclasses import replace

import httpx
import pytest
from serving_server import running
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from gmai_vl.serving.guard import Guard
from gmai_vl.serving.limits import Limits

LIMITS = Limits(header_seconds=0.5, stalled_seconds=0.5, body_seconds=0.5, connections=20, body_bytes=100)
HEAD = b"GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


class State:
    def __init__(self):
        self.ended = threading.Event()


@pytest.fixture
def server():
    state = State()

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
    app = Guard(inner, key=None, hosts=frozenset({"127.0.0.1"}), limits=LIMITS)
    with running(app, limits=LIMITS) as url:
        yield url, state


@pytest.fixture
def url(server):
    return server[0]


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


@pytest.mark.parametrize("start", [b"", b"G", HEAD[:-2]])
def test_a_head_that_does_not_come_is_not_waited_for(url, start):
    with connected(url) as slow:
        slow.sendall(start)
        assert read_all(slow) == b""


def test_nor_is_a_second_one_on_the_same_connection(url):
    with connected(url) as slow:
        slow.sendall(HEAD)
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")
        slow.sendall(HEAD[:-2])
        assert b"HTTP/1.1 200" not in read_all(slow)


def test_a_slow_head_that_comes_in_time_is_answered(url):
    with connected(url) as one:
        for byte in HEAD:
            one.sendall(bytes([byte]))
        assert one.recv(4096).startswith(b"HTTP/1.1 200")


def test_connections_beyond_the_limit_are_closed_and_the_others_answered(url):
    held = [connected(url) for _ in range(300)]
    refused = 0
    for connection in held:
        try:
            connection.sendall(HEAD)
            refused += not connection.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            refused += 1
    assert 300 - LIMITS.connections <= refused < 300
    for connection in held:
        connection.close()
    with connected(url) as after:  # the places are free again, maybe not this very moment
        after.sendall(HEAD)
        while not read_all(after).startswith(b"HTTP/1.1 200"):
            after = connected(url)
            after.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))


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

    app = Guard(Starlette(routes=[Route("/{size}", large)]), key=None, hosts=frozenset({"127.0.0.1"}), limits=limits)
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


def test_who_is_refused_while_still_sending_reads_why(url):
    with connected(url) as sending:
        sending.sendall(b"POST /x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 200000\r\n\r\n" + b"x" * 1000)
        assert sending.recv(4096).startswith(b"HTTP/1.1 413")
        sending.sendall(b"x" * 199_000)
        sending.sendall(HEAD)
        assert b"HTTP/1.1 200" in read_all(sending)


def test_who_goes_on_sending_for_ever_is_broken_off(url):
    with connected(url) as sending:
        sending.sendall(b"POST /x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99999999\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                sending.sendall(b"x" * 10)


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"NONSENSE\r\n\r\n", b"x" * 200_000])
def test_what_is_no_http_is_refused(url, garbage):
    with connected(url) as odd:
        try:
            odd.sendall(garbage)
        except ConnectionResetError:
            return
        assert read_all(odd)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
    assert httpx.get(f"{url}/x").status_code == 200
