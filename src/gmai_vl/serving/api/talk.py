"""One request while it is answered: pieces from the engine become a reply, and a client that leaves ends it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gmai_vl.serving.api.replies import DONE, Choice, Header, Told, chunk, completion, event, usage_chunk
from gmai_vl.serving.api.request import ChatRequest
from gmai_vl.serving.engine import Asked, Piece, Tell
from gmai_vl.serving.record import Record
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.served import Served

FAULT = "the model could not finish this answer; the server's log says why"


class Talk:
    """An answer, or several, to one request."""

    def __init__(
        self, chat: ChatRequest, served: Served, asked: Sequence[Asked], record: Record, pictures: int
    ) -> None:
        """Put the request into the engine's queue. Raises Refusal where that is full."""
        self._chat = chat
        self._header = Header(model=served.name, fingerprint=served.fingerprint)
        self._prompt_tokens = len(asked[0].prompt.input_ids)
        self._choices = [Choice() for _ in asked]
        self._told = Told(served.engine.vlm.processor.tokenizer) if chat.logprobs else None
        self._came: asyncio.Queue[tuple[int, Piece] | None] = asyncio.Queue()
        """Pieces by the number of their choice; None once the client is gone."""

        self._loop = asyncio.get_running_loop()
        self._tickets = served.engine.submit(asked, [self._tell(index) for index in range(len(asked))])
        self._entry = record.begin(self._header.id, served, pictures=pictures, prompt_tokens=self._prompt_tokens)

    async def whole(self, request: Request) -> Response:
        """Return the whole reply; an empty one where the client has left. Raises Refusal if the model fails."""
        try:
            async for _ in self._pieces(request):
                pass
        finally:
            self.close()
        if any(choice.finish is None for choice in self._choices):
            return Response(status_code=499)  # nobody reads it
        if any(choice.finish in ("failed", "cancelled") for choice in self._choices):
            raise Refusal(503, FAULT, retry_after=5)
        return JSONResponse(completion(self._header, self._choices, self._prompt_tokens, self._told))

    def streamed(self, request: Request) -> Response:
        """Return a reply that is sent as it comes."""
        return _Stream(self._events(request), self.close)

    def close(self) -> None:
        """Give up what is not finished, and write down what was said."""
        for ticket in self._tickets:
            ticket.cancel()
        finish = [choice.finish for choice in self._choices]
        self._entry.end(finish, [len(choice.words) for choice in self._choices])

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        with_usage = self._chat.with_usage
        for index in range(len(self._choices)):
            yield chunk(self._header, index, {"role": "assistant", "content": ""}, with_usage=with_usage)
        async for index, piece in self._pieces(request):
            if piece.finish in ("failed", "cancelled"):
                yield event(Refusal(503, FAULT).body())
                return
            if piece.text or piece.words:
                logprobs = None if self._told is None else self._told.of(piece.words)
                yield chunk(self._header, index, {"content": piece.text}, logprobs=logprobs, with_usage=with_usage)
            if piece.finish is not None:
                yield chunk(self._header, index, {}, finish=piece.finish, with_usage=with_usage)
        if any(choice.finish is None for choice in self._choices):
            return
        if with_usage:
            yield usage_chunk(self._header, self._prompt_tokens, self._choices)
        yield DONE

    async def _pieces(self, request: Request) -> AsyncIterator[tuple[int, Piece]]:
        """Yield pieces as they come, and keep them, until all choices are finished or the client is gone."""
        gone = asyncio.ensure_future(_gone(request))
        gone.add_done_callback(lambda _: self._came.put_nowait(None))
        try:
            while any(choice.finish is None for choice in self._choices):
                came = await self._came.get()
                if came is None:
                    return
                index, piece = came
                choice = self._choices[index]
                if piece.text:
                    self._entry.first()
                choice.text += piece.text
                choice.words += piece.words
                choice.finish = piece.finish
                yield index, piece
        finally:
            gone.cancel()

    def _tell(self, index: int) -> Tell:
        def tell(piece: Piece) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._came.put_nowait, (index, piece))

        return tell


async def _gone(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """Server-sent events, with something to do at their end, however that comes about, also before the first."""

    def __init__(self, events: AsyncIterator[bytes], close: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()
