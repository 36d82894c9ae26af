"""The page and what it is told: its own files, models, tasks, samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from gmai_vl.foundation import UserError, read_yaml
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.samples import sample_png, samples
from gmai_vl.serving.studies import PRESETS

PAGE = Path(__file__).parent / "page"
TASKS = Path(__file__).parent / "tasks.yaml"
NOTICE = {"en": "Research use only, not for diagnosis.", "zh": "仅供研究使用，不用于诊断。"}

MEDIA = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {path.name: path for path in PAGE.iterdir() if path.suffix in MEDIA}
"""All that is given out; a name from outside is looked up, never joined to a path."""


def demo_routes(models: Sequence[str], limits: Limits) -> APIRouter:
    """Return the routes of the page and of what it asks for, but for uploads."""
    router = APIRouter(tags=["page"])
    told = about(models, limits)

    @router.get("/", response_class=Response)
    async def page() -> Response:
        """Return the page."""
        return _file("index.html")

    @router.get("/page/{name}", response_class=Response, responses={404: {"description": "No such file"}})
    async def file(name: str) -> Response:
        """Return a file of the page."""
        return _file(name)

    @router.get("/demo/about")
    async def tell() -> dict[str, Any]:
        """Tell what can be asked here."""
        return told

    @router.get("/demo/samples/{name}.png", response_class=Response, responses={404: {"description": "No such sample"}})
    async def sample(name: str) -> Response:
        """Return the picture of a sample."""
        try:
            return Response(await anyio.to_thread.run_sync(sample_png, name), media_type="image/png")
        except UserError as error:
            raise Refusal(404, str(error)) from None

    return router


def about(models: Sequence[str], limits: Limits) -> dict[str, Any]:
    """Return what the page is told."""
    return {
        "notice": NOTICE,
        "models": list(models),
        "max_tokens": limits.answer_tokens,
        "limits": {"images": limits.images, "upload_bytes": limits.upload_bytes},
        "windows": PRESETS,
        "samples": samples(),
        **read_yaml(TASKS),
    }


def _file(name: str) -> Response:
    if name not in FILES:
        raise Refusal(404, "no such file")
    path = FILES[name]
    return FileResponse(path, media_type=MEDIA[path.suffix])
