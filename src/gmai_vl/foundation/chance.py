"""Chance that depends on a seed and names only: never on order, worker, machine or Python's hash seed."""

import hashlib
import random
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def stable_rng(*names: object) -> random.Random:
    """Return a generator seeded by `names`, which are joined by their `str`."""
    return random.Random(_digest(names))


def stable_fraction(*names: object) -> float:
    """Return a number in [0, 1) that depends on `names` only."""
    return (_digest(names) >> 203) / 2**53


def stable_shuffle(items: Iterable[T], *names: object) -> list[T]:
    """Return `items` in an order that depends on their own order and `names` only."""
    shuffled = list(items)
    stable_rng(*names).shuffle(shuffled)
    return shuffled


def _digest(names: tuple[object, ...]) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, names)).encode()).digest())
