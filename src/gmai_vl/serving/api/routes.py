"""The routes of OpenAI's API: models and chat completions, whole or streamed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from gmai_vl.foundation import nearest
from gmai_vl.model import Vlm
from gmai_vl.serving.api.asking import Shown, asked_of, check, picture_urls, shown
from gmai_vl.serving.api.request import ChatRequest
from gmai_vl.serving.api.talk import Talk
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.pictures import SCHEME, picture_of, picture_of_bytes
from gmai_vl.serving.record import Record
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.served import Served

UNPACKED_AT_ONCE = 2
"""Pictures that are decoded at a time: each can take some hundred MiB."""

FETCHED_AT_ONCE = 8
"""Pictures from elsewhere that are fetched at a time: each is held as a file until it is decoded."""

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A completion; with `stream` its chunks as server-sent events",
        "content": {"text/event-stream": {}},
    },
    **{status: {"description": "Refused, in OpenAI's form of errors"} for status in (400, 404, 413, 422, 429, 503)},
}

Fetch = Callable[[str, Limits, str], Awaitable[bytes]]
"""Gets the file of a picture from an https address; the last is its place in the request."""


def api_routes(served: Sequence[Served], limits: Limits, record: Record, fetch: Fetch | None) -> APIRouter:
    """Return the routes below /v1. Without `fetch` pictures come within the request only."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    by_name = {one.name: one for one in served}
    unpacking, fetching = CapacityLimiter(UNPACKED_AT_ONCE), CapacityLimiter(FETCHED_AT_ONCE)

    async def seen(place: str, url: str, vlm: Vlm) -> Shown:
        """Return a picture as the model takes it."""
        if fetch is None or url[: len(SCHEME)].lower() == SCHEME:
            return await to_thread.run_sync(lambda: shown(picture_of(url, limits, place), vlm), limiter=unpacking)
        async with fetching:
            file = await fetch(url, limits, place)
            return await to_thread.run_sync(
                lambda: shown(picture_of_bytes(file, limits, place), vlm), limiter=unpacking
            )

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """List the models that answer here."""
        return {"object": "list", "data": [_told(one) for one in served]}

    @router.get("/models/{name:path}", responses={404: {"description": "No such model"}})
    async def model(name: str) -> dict[str, Any]:
        """Tell of one model."""
        return _told(_named(name, by_name))

    @router.post("/chat/completions", responses=ANSWERS, response_model=None)
    async def chat_completions(chat: ChatRequest, request: Request) -> Response:
        """Go on with a conversation about pictures. Research use only, not for diagnosis."""
        check(chat, limits)
        one = _named(chat.model, by_name)
        vlm = one.engine.vlm
        pictures = [await seen(place, url, vlm) for place, url in picture_urls(chat).items()]
        asked = await to_thread.run_sync(asked_of, chat, pictures, vlm, limiter=unpacking)
        talk = Talk(chat, one, asked, record, pictures=len(pictures))
        return talk.streamed(request) if chat.stream else await talk.whole(request)

    return router


def _named(name: str, served: Mapping[str, Served]) -> Served:
    if name not in served:
        raise Refusal(
            404, f"model: no `{name[:100]}` here; {nearest(name[:100], served)}", param="model", code="model_not_found"
        )
    return served[name]


def _told(one: Served) -> dict[str, Any]:
    return {"id": one.name, "object": "model", "created": one.created, "owned_by": "gmai-vl"}
