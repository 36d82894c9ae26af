"""Routes of the page for studies: upload, look at a slice, forget."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from anyio import CapacityLimiter
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies.receiving import receive_files
from gmai_vl.serving.studies.series import Series
from gmai_vl.serving.studies.store import StudyStore
from gmai_vl.serving.studies.study import Study

UPLOADS_AT_ONCE = 4
"""Each may put as many bytes on the disk as an upload may have."""

SLICES_AT_ONCE = 4
SECONDS_BETWEEN_SWEEPS = 60.0

FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}
REFUSED = "Refused, in OpenAI's form of errors"


def study_routes(store: StudyStore, limits: Limits) -> APIRouter:
    """Return the routes below /demo/studies; while they are served what has expired is forgotten."""

    @asynccontextmanager
    async def sweeping(_app: Any) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_sweep, store)
            yield
            tasks.cancel_scope.cancel()

    router = APIRouter(prefix="/demo/studies", tags=["Studies"], lifespan=sweeping)
    uploading = CapacityLimiter(UPLOADS_AT_ONCE)
    slicing = CapacityLimiter(SLICES_AT_ONCE)

    @router.post("", openapi_extra=FORM, responses=_refused(400, 408, 413, 422, 429, 503))
    async def upload(request: Request) -> dict[str, Any]:
        """Open files that were uploaded: pictures, DICOM files, volumes, or a zip of them."""
        try:
            uploading.acquire_nowait()
        except anyio.WouldBlock:
            raise Refusal(429, "other studies are being uploaded; try again later", retry_after=5) from None
        try:
            name, study = await _taken_in(request, store, limits)
        finally:
            uploading.release()
        return {"id": name, "expires_s": int(limits.study_seconds), **_told(study)}

    @router.get(
        "/{study}/{series}/{plane}/{slice}.png",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **_refused(404, 422)},
    )
    async def picture(study: str, series: str, plane: str, slice: str, window: str | None = None) -> Response:
        """Return a slice as it is shown to a model, as PNG; without `window` through the first of its series."""
        opened = store.get(study)
        one = _numbered(opened, series)
        index = _number(slice, "slice")

        def drawn() -> bytes:
            return _png(one.slice(plane, index, window))

        try:
            content = await anyio.to_thread.run_sync(drawn, limiter=slicing)
        except Refusal:
            store.get(study)  # where it has gone meanwhile, that is what is wrong
            raise
        return Response(content, media_type="image/png", headers={"cache-control": "no-store"})

    @router.delete("/{study}", status_code=204, responses=_refused(404))
    async def forget(study: str) -> Response:
        """Forget a study and remove its files."""
        await anyio.to_thread.run_sync(store.remove, study)
        return Response(status_code=204)

    return router


async def _sweep(store: StudyStore) -> None:
    while True:
        await anyio.sleep(SECONDS_BETWEEN_SWEEPS)
        await anyio.to_thread.run_sync(store.sweep)


async def _taken_in(request: Request, store: StudyStore, limits: Limits) -> tuple[str, Study]:
    """Write an upload to disk as it comes, and open it."""
    room = store.room()
    try:
        files = await receive_files(request.stream(), request.headers.get("content-type", ""), room, limits)
    except ClientDisconnect:
        store.give_up(room)
        raise Refusal(400, "the upload broke off") from None
    except BaseException:
        store.give_up(room)
        raise
    return await anyio.to_thread.run_sync(store.add, room, files)


def _told(study: Study) -> dict[str, Any]:
    return {
        "series": [_series(one) for one in study.series],
        "left_out": [{"reason": reason, "count": count} for reason, count in study.left_out],
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        "number": series.number,
        "modality": series.modality,
        "kind": series.kind,
        "windows": list(series.windows),
        "notes": list(series.notes),
        "planes": [
            {
                "name": stack.name,
                "slices": stack.slices,
                "first": stack.first,
                "width": stack.width,
                "height": stack.height,
                "pixel_mm": [round(pitch, 4) for pitch in stack.pixel_mm] if stack.pixel_mm else None,
            }
            for stack in series.planes
        ],
    }


def _numbered(study: Study, given: str) -> Series:
    number = _number(given, "series")
    if number >= len(study.series):
        raise Refusal(422, f"series: from 0 to {len(study.series) - 1}", param="series")
    return study.series[number]


def _number(given: str, place: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise Refusal(422, f"{place}: a number from 0", param=place)
    return int(given)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)  # a slider waits for it
    return file.getvalue()


def _refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": REFUSED} for status in statuses}
