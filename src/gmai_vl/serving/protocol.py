"""Connections that clients cannot hold for nothing: slow heads, bodies nobody wants, replies left unread, too many."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal


def protocol(limits: Limits) -> Any:
    """Return what uvicorn makes a protocol of for each connection (`http` of its Config)."""
    return partial(BoundedProtocol, limits=limits)


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 on one connection, with the times that uvicorn has no bounds for.

    The time of a body within a request is for the guard, which can answer it with a status.
    """

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        """Take what uvicorn gives, and the limits."""
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close at once what is too many; wait for a head otherwise."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            transport.abort()
        else:
            self._bound("head", self._limits.header_seconds)

    def data_received(self, data: bytes) -> None:
        """See whether the head of a request is whole, or one has begun."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._bound("head", self._limits.header_seconds)
        else:
            self._unbound("head")
        if self.conn.their_state is not h11.SEND_BODY:
            self._unbound("unwanted body")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else that is refused, and close."""
        body = json.dumps(Refusal(400, "this is no request in HTTP/1.1").body()).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        head = h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request")
        for part in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """Let a client that was refused before it had sent all go on sending, for a while: else it sees no status."""
        super().on_response_complete()
        self._unbound("head")  # uvicorn bounds the time between requests
        if self.conn.their_state is h11.SEND_BODY:
            self._bound("unwanted body", self._limits.body_seconds)
        self._watch()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """The client reads again; what is left may still stay unread."""
        super().resume_writing()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was waited for."""
        for name in list(self._timers):
            self._unbound(name)
        super().connection_lost(exc)

    def _watch(self) -> None:
        """See after some seconds whether a client has read anything of what waits for it."""
        self._unbound("unread reply")
        if waiting := self.transport.get_write_buffer_size():
            look = self.loop.call_later(self._limits.stalled_seconds, self._look, waiting)
            self._timers["unread reply"] = look

    def _look(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._watch()

    def _bound(self, name: str, seconds: float) -> None:
        """Break the connection off after some seconds, counted from the first of several calls."""
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, self._break_off())

    def _unbound(self, name: str) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()

    def _break_off(self) -> Callable[[], None]:
        return self.transport.abort
