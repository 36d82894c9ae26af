"""An OpenAI-compatible server on loopback that behaves as a test scripts it, and counts what it was asked and answered.

    with Stub(in_turn(status(429, retry_after="0"), answer())) as stub:  # each prompt is refused once, then answered
        ...  # ask stub.url
    assert stub.billed["a prompt"] == 1

A script is a function from a `Question` to an act; acts are made by `answer`, `status`, `raw` and the others below.
Its answers depend on the question alone. Every whole answer is written at once, so that no delayed ACK slows it down.
"""

import base64
import gzip
import hashlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_S = 60.0
"""After so long a test that waits for something that does not come goes on, and fails."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, as the server sees it."""

    prompt: str
    """Text of the last message."""

    nth: int
    """How often that prompt came before."""

    body: dict[str, Any]
    headers: dict[str, str]
    """Names in lower case."""

    @property
    def images(self) -> list[bytes]:
        """The files of all images, in reading order."""
        pieces = [piece for message in self.body["messages"] for piece in _pieces(message["content"])]
        urls = [piece["image_url"]["url"] for piece in pieces if piece["type"] == "image_url"]
        return [base64.b64decode(url.removeprefix("data:image/png;base64,"), validate=True) for url in urls]

    @property
    def tokens(self) -> tuple[int, int]:
        """What it costs: a token for each word, a hundred for each image; as many answer tokens as words, at most."""
        pieces = [piece for message in self.body["messages"] for piece in _pieces(message["content"])]
        words = sum(len(piece["text"].split()) for piece in pieces if piece["type"] == "text")
        return words + 100 * len(self.images), min(self.body["max_tokens"], len(reply_to(self.body).split()))


class Exchange:
    """A question and the connection that waits for its answer; what an act is given."""

    def __init__(self, stub: "Stub", handler: "_Handler", question: Question) -> None:
        self.stub, self.question = stub, question
        self._handler = handler

    def send(self, raw: bytes) -> None:
        """Write bytes to the connection."""
        self._handler.wfile.write(raw)

    def leave(self) -> None:
        """No longer count as under way; call it before the last byte is sent."""
        self.stub.leave(self)

    def bill(self) -> None:
        """Count it as answered with status 200 and charge its tokens."""
        self.stub.bill(self)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection, politely or with a reset."""
        if reset:
            self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._handler.connection.close()
        self._handler.close_connection = True


Act = Callable[[Exchange], None]
Script = Callable[[Question], Act]


class Stub:
    """The server. Use as a context; all counters may be read at any time."""

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        self.script: Script = script or (lambda _: answer())
        self.asked: Counter[str] = Counter()
        """Requests that were read whole, by prompt."""

        self.billed: Counter[str] = Counter()
        """Requests that were answered with status 200, whatever came of the answer, by prompt."""

        self.billed_tokens = [0, 0]
        """Of prompts and of answers."""

        self.arrivals: list[float] = []
        """When each request was read; time.monotonic."""

        self.most_at_once = 0
        self.connections_to_drop = 0
        """So many of the next connections are closed before anything is read."""

        self.changed = threading.Condition()
        """Guards all counters; notified whenever one changes."""

        self.closing = threading.Event()
        self._under_way: set[Exchange] = set()
        self._sockets: set[socket.socket] = set()
        handler = type("Handler", (_Handler,), {"stub": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """The base address."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "Stub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        self._thread.join()
        self._server.server_close()

    def die(self) -> None:
        """Stop listening and close every connection, for good. May be called by an act."""
        self.closing.set()
        _shut(self._server.socket)
        with self.changed:
            for connection in self._sockets:
                _shut(connection)
            self.changed.notify_all()

    def _serve(self) -> None:
        while not self.closing.is_set():
            self._server.handle_request()

    def wait_until(self, condition: Callable[["Stub"], bool]) -> None:
        """Wait until the counters fulfil `condition`; fail if they never do."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self) or self.closing.is_set(), PATIENCE_S)

    def handle(self, handler: "_Handler", body: bytes) -> None:
        """Count a request and do with it what the script says."""
        data = json.loads(body)
        pieces = _pieces(data["messages"][-1]["content"])
        prompt = "\n".join(piece["text"] for piece in pieces if piece["type"] == "text")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self.changed:
            question = Question(prompt=prompt, nth=self.asked[prompt], body=data, headers=headers)
            exchange = Exchange(self, handler, question)
            self.asked[prompt] += 1
            self.arrivals.append(time.monotonic())
            self._under_way.add(exchange)
            self.most_at_once = max(self.most_at_once, len(self._under_way))
            self.changed.notify_all()
        try:
            self.script(question)(exchange)
        finally:
            self.leave(exchange)

    def leave(self, exchange: Exchange) -> None:
        with self.changed:
            self._under_way.discard(exchange)
            self.changed.notify_all()

    def bill(self, exchange: Exchange) -> None:
        with self.changed:
            self.billed[exchange.question.prompt] += 1
            for place, tokens in enumerate(exchange.question.tokens):
                self.billed_tokens[place] += tokens
            self.changed.notify_all()

    def opened(self, connection: socket.socket) -> bool:
        """Note a connection; false if it is to be dropped."""
        with self.changed:
            self._sockets.add(connection)
            self.connections_to_drop -= 1
            return self.connections_to_drop < 0 and not self.closing.is_set()

    def closed(self, connection: socket.socket) -> None:
        with self.changed:
            self._sockets.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    timeout = 1.0
    request_queue_size = 1024

    def handle_error(self, *_: object) -> None:
        """A client that went away is no fault of the server."""


class _Handler(BaseHTTPRequestHandler):
    stub: Stub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            if self.stub.opened(self.connection):
                super().handle()
        except OSError:
            pass  # the client went away
        finally:
            self.stub.closed(self.connection)

    def do_POST(self) -> None:
        self.stub.handle(self, self.rfile.read(int(self.headers["content-length"])))

    def log_message(self, *_: object) -> None:
        pass


# Acts


def answer(text: str | None = None, *, usage: object = "true", finish: str = "stop") -> Act:
    """Answer well: with `text`, else with what `reply_to` says. `usage` stands for the true one; None leaves it out."""

    def act(exchange: Exchange) -> None:
        exchange.bill()
        exchange.leave()
        exchange.send(response(200, envelope(exchange.question, text, usage=usage, finish=finish)))

    return act


def when(condition: Callable[[Stub], bool], then: Act) -> Act:
    """Do `then` as soon as the counters fulfil `condition`."""

    def act(exchange: Exchange) -> None:
        exchange.stub.wait_until(condition)
        then(exchange)

    return act


def status(code: int, body: str = '{"error": {"message": "as scripted"}}', **headers: str) -> Act:
    """Answer with another status; `retry_after="3"` and the like become headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def act(exchange: Exchange) -> None:
        exchange.leave()
        exchange.send(response(code, body.encode(), named))

    return act


def raw(body: bytes, **headers: str) -> Act:
    """Answer with status 200 and any body; it is billed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def act(exchange: Exchange) -> None:
        exchange.bill()
        exchange.leave()
        exchange.send(response(200, body, named))

    return act


def html() -> Act:
    """Answer with status 200 and a page, as a portal or a proxy does."""
    return raw(b"<!DOCTYPE html><html><title>Log in</title></html>", content_type="text/html")


def cut_short() -> Act:
    """Promise a whole answer, send half of it and close; it is billed."""

    def act(exchange: Exchange) -> None:
        exchange.bill()
        whole = response(200, envelope(exchange.question))
        exchange.leave()
        exchange.send(whole[:-40])
        exchange.hang_up()

    return act


def bomb(layers: int = 1) -> Act:
    """Answer with 256 MB of blanks, gzipped `layers` times."""

    def act(exchange: Exchange) -> None:
        body = b" " * 2**28
        for _ in range(layers):
            body = gzip.compress(body, 1)
        raw(body, content_encoding=", ".join(["gzip"] * layers))(exchange)

    return act


def endless() -> Act:
    """Send a body that never ends."""

    def act(exchange: Exchange) -> None:
        exchange.bill()
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while not exchange.stub.closing.is_set():
            exchange.send(b" " * 2**20)

    return act


def drip(head: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n") -> Act:
    """Send `head`, then a byte now and then; a head without an empty line drips headers."""

    def act(exchange: Exchange) -> None:
        exchange.bill()
        exchange.send(head)
        while not exchange.stub.closing.wait(0.05):
            exchange.send(b"x")

    return act


def never() -> Act:
    """Read the request and say nothing."""
    return lambda exchange: exchange.stub.wait_until(lambda stub: stub.closing.is_set())


def hang_up(*, reset: bool = False) -> Act:
    """Read the request and close the connection."""
    return lambda exchange: exchange.hang_up(reset=reset)


def die() -> Act:
    """Close this connection and every other; nobody is answered any more."""
    return lambda exchange: exchange.stub.die()


# Scripts and texts


def in_turn(*acts: Act) -> Script:
    """Do the first act when a prompt comes first, the second when it comes again, ...; the last one ever after."""
    return lambda question: acts[min(question.nth, len(acts) - 1)]


def always(act: Act) -> Script:
    """Do the same whatever is asked."""
    return lambda _: act


def reply_to(body: dict[str, Any]) -> str:
    """Return the text that answers a request well: an object where JSON is asked for, and a function of it alone."""
    asked = json.dumps([body["messages"], body.get("seed"), body["model"]], sort_keys=True)
    text = f"answer {hashlib.sha256(asked.encode()).hexdigest()[:12]}"
    return json.dumps({"answer": text}) if "response_format" in body else text


def envelope(question: Question, text: str | None = None, *, usage: object = "true", finish: str = "stop") -> bytes:
    """Return a body in the form of chat completions."""
    prompt, said = question.tokens
    true = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    message = {"role": "assistant", "content": reply_to(question.body) if text is None else text}
    data: dict[str, Any] = {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": question.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": true if usage == "true" else usage,
    }
    return json.dumps({key: value for key, value in data.items() if value is not None}).encode()


def response(code: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """Return a whole HTTP response."""
    named = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
    lines = [f"HTTP/1.1 {code} X", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _pieces(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it was closed before
        connection.shutdown(socket.SHUT_RDWR)
