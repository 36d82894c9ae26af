"""Questions for tests of serving: conversations about small pictures, as the model and as the API take them."""

import base64
import io
import queue
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmai_vl.model import Request, Vlm, prepare_image
from gmai_vl.model.asked import prepare
from gmai_vl.records import ImageRef, Turn
from gmai_vl.serving.engine import Asked, Engine, Piece, Ticket

TEXTS = ("is it?", "which organ is shown in this picture", "ct", "where is the lesion, left or right?", "还有呢", "a")


def picture(seed: int, height: int = 30, width: int = 50) -> NDArray[np.uint8]:
    """Return noise in colour, the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def data_url(pixels: NDArray[np.uint8]) -> str:
    """Return pixels as the address of a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def question(number: int, **more: Any) -> Request:
    """Return one of many questions about one of three pictures."""
    text = f"{TEXTS[number % len(TEXTS)]} {number // len(TEXTS) or ''}".strip()
    return Request((Turn("user", (ImageRef(0), text)),), (picture(number % 3),), **more)


def asked(vlm: Vlm, request: Request, max_tokens: int = 24, stops: tuple[str, ...] = ()) -> Asked:
    """Return a request as the engine takes it."""
    (prompt,), pixels = prepare(vlm, [request])
    prepared = {name: prepare_image(vlm.processor, each) for name, each in pixels.items()}
    return Asked(prompt=prompt, sampling=request.sampling, prepared=prepared, max_tokens=max_tokens, stops=stops)


class Heard:
    """What one answer has told; takes pieces from the engine's thread."""

    def __init__(self) -> None:
        """Nothing is told yet."""
        self.pieces: list[Piece] = []
        self._came: queue.SimpleQueue[Piece] = queue.SimpleQueue()

    def __call__(self, piece: Piece) -> None:
        """Take a piece."""
        self._came.put(piece)

    def next(self) -> Piece:
        """Wait for the next piece."""
        self.pieces.append(self._came.get(timeout=60))
        return self.pieces[-1]

    def whole(self) -> str:
        """Wait for the end and return the text."""
        while not (self.pieces and self.pieces[-1].finish):
            self.next()
        return "".join(piece.text for piece in self.pieces)

    @property
    def finish(self) -> str | None:
        """How it ended."""
        return self.pieces[-1].finish

    @property
    def tokens(self) -> list[int]:
        """All tokens so far."""
        return [word.token for piece in self.pieces for word in piece.words]


def submit(engine: Engine, wanted: Sequence[Asked]) -> tuple[list[Ticket], list[Heard]]:
    """Ask an engine and return what comes back."""
    heard = [Heard() for _ in wanted]
    return engine.submit(wanted, heard), heard
