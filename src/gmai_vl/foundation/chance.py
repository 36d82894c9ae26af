"""Chance that depends on a seed and names only: never on order, worker, machine or Python's hash seed."""

import hashlib
import random
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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


def stable_keys(chance_N: NDArray[np.uint64], *names: object) -> NDArray[np.uint64]:
    """Return a key for each of many things by its own `chance`, 64 random bits; which keys depends on `names`.

    Sorted by their keys the things stand in an order that chance makes and that their first order has no part in.
    """
    mixed_N = chance_N ^ np.uint64(_digest(names) >> 192)
    # The finalizer of splitmix64 (Steele, Lea and Flood, 2014): each bit of the input changes half of the output's.
    mixed_N = (mixed_N ^ (mixed_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed_N = (mixed_N ^ (mixed_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed_N ^ (mixed_N >> np.uint64(31))
