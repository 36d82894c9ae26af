"""The whole server as one application: API, page, studies, health, numbers; every request through the guard."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gmai_vl import __version__
from gmai_vl.foundation import visible
from gmai_vl.serving.api import Fetch, api_routes
from gmai_vl.serving.demo import demo_routes
from gmai_vl.serving.guard import Guard
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.record import Record
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.served import Served
from gmai_vl.serving.studies import StudyStore, study_routes

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""Names under which a browser or a client on the same machine calls it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Who may ask, and how."""

    key: str | None = None
    """What clients have to show; None only where nobody but this machine can reach it."""

    hosts: frozenset[str] = LOOPBACK
    """Names and addresses that requests may call the server by."""

    fetch: Fetch | None = None
    """Gets pictures from https addresses; None: they come within the request."""

    audit: Path | None = None
    """File to which a line is added for every answer."""

    limits: Limits = field(default_factory=Limits)


def create_app(served: Sequence[Served], access: Access, folder: Path) -> FastAPI:
    """Return the application, which keeps uploaded studies in `folder` and closes the engines at its end."""
    limits = access.limits
    record = Record(served, access.audit)
    store = StudyStore(folder, limits)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        for one in served:
            one.engine.close()
        store.close()
        record.close()

    app = FastAPI(
        title="gmai-vl",
        version=__version__,
        description="Medical vision-language models. Research use only, not for diagnosis.",
        lifespan=lifespan,
        docs_url=None,  # they load scripts from a foreign host
        redoc_url=None,
    )
    app.include_router(api_routes(served, limits, record, access.fetch))
    app.include_router(demo_routes([one.name for one in served], limits))
    app.include_router(study_routes(store, limits))

    @app.get("/health", responses={503: {"description": "An engine has ended"}})
    async def health() -> Response:
        """Say whether every model answers."""
        dead = [one.name for one in served if not one.engine.is_alive]
        return JSONResponse({"status": "failed", "models": dead} if dead else {"status": "ok"}, 503 if dead else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return numbers for Prometheus."""
        return Response(record.metrics(), media_type="text/plain; version=0.0.4")

    def refused(_request: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refusal)
        return record.refuse(refusal)

    def not_understood(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refused(request, _first_fault(error))

    def not_found(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refused(
            request, Refusal(error.status_code, f"{request.method} {visible(request.url.path)[:200]}: {error.detail}")
        )

    handlers: dict[type[Exception], Callable[[Request, Exception], Response]] = {
        Refusal: refused,
        RequestValidationError: not_understood,
        HTTPException: not_found,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Guard, key=access.key, hosts=access.hosts, limits=limits, record=record)
    return app


def _first_fault(error: RequestValidationError) -> Refusal:
    """Return the first thing that is wrong with a request: its place, and what is wrong, but not what was given."""
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return Refusal(400, f"the body is no JSON: {fault.get('ctx', {}).get('error', '')}")
    place = visible(".".join(str(part) for part in fault["loc"] if part != "body"))[:200]
    wrong = fault["msg"].removeprefix("Value error, ")
    return Refusal(400, f"{place}: {wrong}" if place else wrong, param=place or None)
