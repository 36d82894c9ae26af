"""One request sent once, and what its outcome means: an answer, a refusal, try again, or stop."""

import asyncio
import json
import math
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from gmai_vl.endpoint.request import Refusal, Reply
from gmai_vl.endpoint.settings import EndpointSettings
from gmai_vl.foundation import Interrupted, visible

_CONNECT_S = 20.0
_MOST_BYTES = 2**24
"""Of one answer; the longest that models give have some hundred thousand."""

_MOST_TOKENS = 2**31
"""Of one request; a server that counts more miscounts."""

_MAY_PASS = frozenset({408, 409, 425, 429})
"""Statuses after which the same request may be answered; besides those from 500 on."""

_OWN_FAULT = frozenset({401, 402, 403, 404, 405, 407, 410, 501, 505})
"""Statuses that every other request would get too."""


class EndpointError(Interrupted):
    """The endpoint cannot be asked, or not on. What was answered before is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A fault that may pass."""

    reason: str

    wait_s: float | None = None
    """How long the server asks to wait; None where it does not say."""

    free: bool = False
    """Whether the server surely did no work for it."""


class Wire:
    """The connections to one server, in a thread of their own: there an exchange can be given up at any point.

    A server that sends a byte a minute is not waited for.
    """

    def __init__(self, settings: EndpointSettings, key: str | None) -> None:
        """Begin the thread; nothing is sent yet."""
        self._settings, self._key = settings, key
        self._certificates = httpx.create_ssl_context()
        self._idle: list[httpx.AsyncClient] = []
        """Those that no request uses; for the thread only."""

        self._closing = threading.Lock()
        """Nothing is sent once it is closed."""

        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give up what is under way, close all connections and end the thread."""
        with self._closing:
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._give_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def send(self, body: bytes, bounds: tuple[int, int]) -> Reply | Refusal | Failed:
        """Post `body` and read the answer, all within the settings' time. Follows no redirect. From any thread.

        `bounds` stand for the token counts where the server gives none. Raises EndpointError where no further request
        can fare better: wrong address, key or method.
        """
        with self._closing:
            if self._closed:
                return Failed(reason="the client was closed", free=True)
            sent = asyncio.run_coroutine_threadsafe(self._send(body, bounds), self._loop)
        try:
            return sent.result()
        except CancelledError:
            return Failed(reason="given up")

    async def _give_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.gather(*(http.aclose() for http in self._idle))

    async def _send(self, body: bytes, bounds: tuple[int, int]) -> Reply | Refusal | Failed:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                status, headers, read = await self._post(body)
        except TimeoutError:
            return Failed(reason=f"no whole answer within {self._settings.timeout_s:g} s")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return Failed(reason=self._line(f"no connection: {error or type(error).__name__}"), free=True)
        except httpx.RequestError as error:
            return Failed(reason=self._line(f"connection broke: {error or type(error).__name__}"))
        if len(read) > _MOST_BYTES:
            return Failed(reason=f"an answer of more than {_MOST_BYTES} bytes")
        if 200 <= status < 300 and (reply := _reply_of(read, bounds)):
            return reply
        said = self._line(read[:4096].decode("utf-8", "replace"))
        if status in _OWN_FAULT or 300 <= status < 400:
            named = self._settings.key_env
            key = f", key from {named}" if named else ", no `key_env`"
            address = self._settings.url
            raise EndpointError(f"{address}: status {status}{key}: {said}; check `url`, `model` and `key_env`")
        if status in _MAY_PASS or status >= 500:
            wait = wait_asked(headers.get("retry-after"))
            return Failed(reason=f"status {status}: {said}", wait_s=wait, free=status in (429, 503))
        if status >= 400:
            return Refusal(f"status {status}: {said}")
        return Failed(reason=f"no answer in the form of chat completions: {said}")

    async def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
        read = bytearray()
        # One connection each: of N in one pool httpcore looks at N^2 for every request; at 256 it did little else.
        http = self._idle.pop() if self._idle else self._connection()
        try:
            async with http.stream("POST", f"{self._settings.url}/chat/completions", content=body) as response:
                async for piece in response.aiter_raw():
                    read += piece
                    if len(read) > _MOST_BYTES:
                        break
        finally:
            self._idle.append(http)
        return response.status_code, response.headers, bytes(read)

    def _connection(self) -> httpx.AsyncClient:
        # identity: what is packed can unpack to any size, and answers are short.
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        return httpx.AsyncClient(
            headers=headers | ({"authorization": f"Bearer {self._key}"} if self._key else {}),
            timeout=httpx.Timeout(
                self._settings.timeout_s, connect=min(_CONNECT_S, self._settings.timeout_s), pool=None
            ),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            verify=self._certificates,
            follow_redirects=False,
        )

    def _line(self, text: str) -> str:
        """Return the beginning of a text from outside in one line, without the key, which servers repeat."""
        return visible(text.replace(self._key, "(the key)") if self._key else text)[:200]


def wait_asked(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _reply_of(body: bytes, bounds: tuple[int, int]) -> Reply | None:
    """Return the reply in a body of chat completions; None if it has not that form."""
    try:
        data: Any = json.loads(body)
        (choice, *_) = data["choices"]
        message = choice["message"]
        text = message.get("content")
        if text is None:
            text = ""  # a refusal in the model's own name: paid for, and no text
        if not isinstance(text, str):
            return None
        finish, model = str(choice.get("finish_reason") or "stop"), str(data.get("model") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    usage = data.get("usage")
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else (None, None)
    prompt, answer = (
        count if type(count) is int and 0 <= count <= _MOST_TOKENS else bound
        for count, bound in zip(counts, bounds, strict=True)
    )
    text, finish, model = map(_without_half_signs, (text, finish, model))
    return Reply(text=text, finish=finish, prompt_tokens=prompt, answer_tokens=answer, model=model)


def _without_half_signs(text: str) -> str:
    """Put ? for lone surrogates: JSON can write them and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()
