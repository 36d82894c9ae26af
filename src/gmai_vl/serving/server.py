"""Starts a server on one address, answers until it is told to stop, and finishes what is under way before it goes."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from gmai_vl import NOTICE
from gmai_vl.evaluation import checkpoint_sha256
from gmai_vl.foundation import UserError, canonical_json, code_identity, say, sha256_of_text
from gmai_vl.model import load_to_answer
from gmai_vl.model.checkpoint import Precision
from gmai_vl.serving.app import LOOPBACK, Access, create_app
from gmai_vl.serving.engine import Engine
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.protocol import protocol
from gmai_vl.serving.served import Served

DRAIN_SECONDS = 60
"""For which answers under way are waited for at the end."""

SHORTEST_KEY = 16
"""Characters of a key that nobody guesses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a server listens."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: one that is free."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.in_url in LOOPBACK or self.host.startswith("127.")

    @property
    def in_url(self) -> str:
        """The host as it stands in an address."""
        return f"[{self.host}]" if ":" in self.host else self.host


def key_for(address: Address, variable: str) -> str | None:
    """Return the key that clients have to show, from an environment variable; None where there is none and none is due.

    Raises UserError where others than this machine could ask without one, or it is too short.
    """
    key = os.environ.get(variable)
    if not key and not address.is_loopback:
        raise UserError(f"--host: {address.host} can be reached from elsewhere; put a key into {variable}")
    if key and len(key) < SHORTEST_KEY:
        raise UserError(f"{variable}: has {len(key)} characters; a key needs at least {SHORTEST_KEY}")
    return key or None


def named_checkpoints(given: Sequence[str]) -> dict[str, Path]:
    """Return name -> folder of models given as PATH or NAME=PATH.

    Without a name it is that of the folder, or of the run around a folder `final`. Raises UserError where two models
    have one name.
    """
    named: dict[str, Path] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not sign or "/" in name:
            folder = Path(text)
            whole = folder.absolute()
            name = whole.parent.name if whole.name == "final" else whole.name
        else:
            folder = Path(path)
        if name in named:
            raise UserError(f"--model: two models are called `{name}`; give them as NAME=PATH")
        named[name] = folder
    return named


def load(named: Mapping[str, Path], limits: Limits, precision: Precision | None = None) -> list[Served]:
    """Load checkpoints and start an engine for each. Raises UserError for what is no checkpoint."""
    served = []
    for name, folder in named.items():
        identity = {"code": code_identity()["sha256"], "model": checkpoint_sha256(folder), "precision": precision}
        engine = Engine(load_to_answer(folder, precision), running=limits.running, waiting=limits.waiting)
        fingerprint = f"fp_{sha256_of_text(canonical_json(identity))[:12]}"
        created = int((folder / "config.json").stat().st_mtime)
        served.append(Served(name=name, engine=engine, fingerprint=fingerprint, created=created))
    return served


def serve(named: Mapping[str, Path], address: Address, access: Access, precision: Precision | None = None) -> None:
    """Serve checkpoints until SIGTERM or SIGINT; then no new request is taken, and those under way are finished.

    Raises UserError where the address is taken or a checkpoint cannot be loaded.
    """
    listener = _listener(address)
    port = listener.getsockname()[1]
    served = load(named, access.limits, precision)
    with tempfile.TemporaryDirectory(prefix="gmai-studies-") as folder:
        config = uvicorn.Config(
            create_app(served, access, Path(folder)),
            http=protocol(access.limits),
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,  # addresses and times of people; --audit has what is needed
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        _Server(config, f"{', '.join(named)} at http://{address.in_url}:{port} ({NOTICE})").run([listener])
    say("stopped")


class _Server(uvicorn.Server):
    """Says when it can be asked, and ends by returning."""

    def __init__(self, config: uvicorn.Config, line: str) -> None:
        super().__init__(config)
        self._line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say(self._line)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let signals end the server; uvicorn would raise them again afterwards, and nothing would be cleared up."""
        ending = (signal.SIGINT, signal.SIGTERM)
        before = {one: signal.signal(one, self.handle_exit) for one in ending}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _listener(address: Address) -> socket.socket:
    """Return a socket that listens, before any model is loaded: a taken port is told at once."""
    try:
        family, *_, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        raise UserError(f"--port: {address.in_url}:{address.port} cannot be used: {error.strerror}") from None
    return listener
