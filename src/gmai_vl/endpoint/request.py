"""What is asked and what comes back: requests with images, their keys in the cache, replies."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmai_vl.endpoint.settings import EndpointSettings
from gmai_vl.foundation import canonical_json, sha256_of_text
from gmai_vl.records import ImageRef, Turn, pixel_sha256

_TOKENS_OF_A_MESSAGE = 16
"""Upper bound of what a chat template puts around one message."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One conversation that a model is to go on with."""

    turns: tuple[Turn, ...]

    images: tuple[NDArray[np.uint8], ...] = ()
    """[H, W] or [H, W, 3] each; what the `ImageRef`s of the turns count."""

    max_tokens: int
    """Longest answer."""

    temperature: float = 0.0
    seed: int | None = None

    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer; None for free text."""

    @cached_property
    def image_sha256s(self) -> tuple[str, ...]:
        """Hashes of the images' pixels."""
        return tuple(map(pixel_sha256, self.images))

    def key(self, settings: EndpointSettings) -> str:
        """Return the name of the reply in the cache: model and all that the answer depends on, not the address."""
        return sha256_of_text(canonical_json(self._body(settings, self.image_sha256s)))

    def body(self, settings: EndpointSettings) -> bytes:
        """Return the JSON body that is sent, images as base64 PNG.

        Keys stay in their order: models fill a schema in its own.
        """
        return json.dumps(self._body(settings, tuple(map(_data_url, self.images))), ensure_ascii=False).encode()

    def most_tokens(self, settings: EndpointSettings) -> tuple[int, int]:
        """Return upper bounds of prompt and answer tokens: no tokenizer makes more tokens than there are bytes."""
        texts = sum(len(piece.encode()) for turn in self.turns for piece in turn.content if isinstance(piece, str))
        schema = len(canonical_json(self.schema).encode()) if self.schema and settings.structured == "schema" else 0
        around = _TOKENS_OF_A_MESSAGE * (len(self.turns) + 1)
        return texts + schema + around + settings.image_tokens * len(self.images), self.max_tokens

    def _body(self, settings: EndpointSettings, images: tuple[str, ...]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [{"role": turn.role, "content": _content(turn, images)} for turn in self.turns],
            "max_tokens": self.max_tokens,
            "temperature": float(self.temperature),  # 0 and 0.0 are one question
        }
        if self.seed is not None:
            body["seed"] = self.seed
        if self.schema is not None and settings.structured == "schema":
            form = {"name": "answer", "strict": True, "schema": self.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif self.schema is not None and settings.structured == "object":
            body["response_format"] = {"type": "json_object"}
        return body


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a model said."""

    text: str

    finish: str
    """`stop`, or `length` where the answer was cut off; servers have more words."""

    prompt_tokens: int
    answer_tokens: int
    """As the server counts them, or their upper bounds where it does not."""

    model: str
    """As the server names it."""

    def as_json(self) -> str:
        """Return the form in which the cache holds it."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Reply":
        """Return what `as_json` was made of."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server will not answer this request, however often it is sent: too long, not allowed, not understood."""

    reason: str


def parsed(reply: Reply) -> dict[str, Any] | str:
    """Return the JSON object of a reply, or why there is none.

    Words or a code fence around one object are taken off, as models add them where a server has no schemas.
    """
    if reply.finish == "length":
        return "the answer was cut off at its longest length"
    first, last = reply.text.find("{"), reply.text.rfind("}")
    try:
        value = json.loads(reply.text[first : last + 1]) if first >= 0 else None
    except (ValueError, RecursionError) as error:
        return f"the answer is no JSON: {str(error)[:100]}"
    return value if isinstance(value, dict) else "the answer holds no JSON object"


def _content(turn: Turn, images: tuple[str, ...]) -> str | list[dict[str, Any]]:
    """Return a message's content: a plain text where there is no image, for servers that read nothing else."""
    if not any(isinstance(piece, ImageRef) for piece in turn.content):
        return turn.text
    return [
        {"type": "image_url", "image_url": {"url": images[piece.index]}}
        if isinstance(piece, ImageRef)
        else {"type": "text", "text": piece}
        for piece in turn.content
    ]


def _data_url(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
