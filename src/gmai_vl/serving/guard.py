"""Who may ask and how much, decided before anything of a request is read; headers that keep a browser safe.

In the order of the checks: the name by which the server is called, the page that calls it, the key, the size of what
comes, how fast it comes, and how much of it is held at a time. An application of ASGI around another.
"""

import asyncio
import hmac
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.record import Record
from gmai_vl.serving.refusals import Refusal

UPLOAD = "/demo/studies"
"""Where files come; they go to disk as they come."""

OPEN_TO_ALL = ("/", "/health")
PAGE = "/page/"
"""Below it lie the page's own files, the same for everybody."""

OF_THE_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
OF_ALL_ELSE = "default-src 'none'; frame-ancestors 'none'"

UPLOAD_BYTES_A_SECOND = 64 * 1024
"""An upload that comes slower than this, once it has had the seconds of any body, is given up."""


class Guard:
    """Lets through what may pass."""

    def __init__(self, app: ASGIApp, *, key: str | None, hosts: frozenset[str], limits: Limits, record: Record) -> None:
        """`hosts` are names and addresses as they stand before a port; `key` is None where none is due."""
        self._app, self._key, self._hosts, self._limits = app, key, hosts, limits
        self._record = record
        self._held = 0
        """Bytes of all bodies that are being read or worked on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), str(scope["path"])
        has_begun = False

        async def guarded_send(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                _add_headers(MutableHeaders(scope=message), path)
            if message["type"] == "http.response.body" and not (message.get("more_body", False) or body.is_whole):
                # Closed now, the connection of a client that is still sending would break before it reads its answer.
                await send({**message, "more_body": True})
                await body.drop()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        body = _Body(self, receive, headers, is_upload=path == UPLOAD)
        try:
            _check_host(headers, self._hosts)
            _check_origin(headers)
            _check_key(headers, path, self._key)
            body.announce()
            # Whole before the application sees it, so that what is wrong with it is told from here.
            given = body.receive if body.is_upload else await body.whole()
            if given is not None:
                await self._app(scope, given, guarded_send)
        except Refusal as refusal:
            assert not has_begun, "a body is read before its answer begins"
            body.let_go()
            await self._record.refuse(refusal)(scope, receive, guarded_send)
        except Exception:
            if not has_begun:
                failed = Refusal(500, "the server failed; its log says where")
                await self._record.refuse(failed)(scope, receive, guarded_send)
            raise  # for the log
        finally:
            body.let_go()

    def hold(self, count: int) -> None:
        """Take so many bytes in. Raises Refusal (429) where there are too many already."""
        if self._held + count > self._limits.bodies_bytes:
            raise Refusal(429, "the server is busy with other large requests; ask again later", retry_after=2)
        self._held += count

    def let_go(self, count: int) -> None:
        """Forget so many bytes."""
        self._held -= count

    @property
    def limits(self) -> Limits:
        """What a request may hold."""
        return self._limits


class _Body:
    """The body of one request, counted and timed as it comes."""

    def __init__(self, guard: Guard, receive: Receive, headers: Mapping[str, str], *, is_upload: bool) -> None:
        self._guard, self._receive, self.is_upload = guard, receive, is_upload
        self._told = headers.get("content-length", "0")
        self._most = guard.limits.upload_bytes if is_upload else guard.limits.body_bytes
        self._began = asyncio.get_running_loop().time()
        self._read = 0
        self._held = 0
        self.is_whole = self._told == "0" and "transfer-encoding" not in headers
        """Whether nothing more of it is to come."""

    def announce(self) -> None:
        """Hold the length that a request tells against the limit, before any of it is read. Raises Refusal."""
        if not (self._told.isascii() and self._told.isdigit()):
            raise Refusal(400, "content-length is no number")
        self._check(int(self._told[:20]))

    async def whole(self) -> Receive | None:
        """Read all of it and return what an application receives: the body in one message, then what comes after.

        None where the client has left. Raises Refusal as `receive` does.
        """
        if self.is_whole:
            return self._receive
        parts = bytearray()
        while not self.is_whole:
            message = await self.receive()
            if message["type"] != "http.request":
                return None
            parts += message.get("body", b"")
        return _told_again({"type": "http.request", "body": bytes(parts), "more_body": False}, self._receive)

    async def receive(self) -> Message:
        """Return the next part of the body, or that the client is gone.

        Raises Refusal: 413 for too much, 408 for too slow, 429 where all bodies together are too many bytes.
        """
        if self.is_whole:
            return await self._receive()
        seconds = self._guard.limits.body_seconds
        if self.is_upload:
            seconds += self._read / UPLOAD_BYTES_A_SECOND
        try:
            async with asyncio.timeout_at(self._began + seconds):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, "the body of the request came too slowly") from None
        self._see(message)
        self._count(len(message.get("body", b"")))
        return message

    async def drop(self) -> None:
        """Let a client send the rest, for as long as a whole body may take, and keep nothing of it."""
        try:
            async with asyncio.timeout(self._guard.limits.body_seconds):
                while not self.is_whole:
                    self._see(await self._receive())
        except TimeoutError:
            pass

    def let_go(self) -> None:
        """Make room for other bodies."""
        self._guard.let_go(self._held)
        self._held = 0

    def _see(self, message: Message) -> None:
        self.is_whole = message["type"] != "http.request" or not message.get("more_body", False)

    def _count(self, new: int) -> None:
        self._read += new
        self._check(self._read)
        if not self.is_upload:
            self._guard.hold(new)
            self._held += new

    def _check(self, length: int) -> None:
        if length > self._most:
            raise Refusal(413, f"the request has more than {self._most} bytes; send less at a time")


def _told_again(message: Message, receive: Receive) -> Receive:
    """Return what gives a message first and then what `receive` gives."""
    waiting = [message]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def _check_host(headers: Mapping[str, str], hosts: frozenset[str]) -> None:
    """Raise Refusal (403) for another name: a page elsewhere may have had its own name point here (DNS rebinding)."""
    host = _without_port(headers.get("host", "")).lower()
    if host not in hosts:
        raise Refusal(403, "the server does not go by this name; start it with --name to allow one")


def _check_origin(headers: Mapping[str, str]) -> None:
    """Raise Refusal (403) for a request that a page of another server makes."""
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").lower():
        raise Refusal(403, "pages of other servers may not ask this one")


def _check_key(headers: Mapping[str, str], path: str, key: str | None) -> None:
    """Raise Refusal (401) where a key is due and is not there."""
    if key is None or path in OPEN_TO_ALL or path.startswith(PAGE):
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    # Headers are bytes that Starlette reads as Latin-1.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), key.encode()):
        raise Refusal(401, "a key is needed: `Authorization: Bearer KEY`", code="invalid_api_key")


def _without_port(host: str) -> str:
    if host.startswith("["):  # an IPv6 address
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _add_headers(headers: Any, path: str) -> None:
    is_page = path == "/" or path.startswith(PAGE)
    headers["content-security-policy"] = OF_THE_PAGE if is_page else OF_ALL_ELSE
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "no-referrer"
    headers["cross-origin-resource-policy"] = "same-origin"
    headers.setdefault("cache-control", "no-cache" if is_page else "no-store")
