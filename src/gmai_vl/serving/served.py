"""A model that answers: its name, its engine, and what tells it from others."""

from dataclasses import dataclass

from gmai_vl.serving.engine import Engine


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A checkpoint under the name by which requests call it."""

    name: str
    engine: Engine

    fingerprint: str
    """Of weights and code: with the same one the same seed gives the same answer."""

    created: int
    """Unix time of its weights."""
