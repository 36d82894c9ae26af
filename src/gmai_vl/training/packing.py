"""Packing: samples of the whole mixture put end to end into rows of at most so many tokens, each sample whole."""

# N samples · P packs

from array import array
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmai_vl.foundation import stable_rng

Packing = Literal["bfd", "next-fit"]
"""bfd: best fit decreasing over the whole mixture. next-fit: the official trainer's soft packing, which never looks
back."""

_AT_A_TIME = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class PackLimits:
    """How samples are put into packs."""

    packing: Packing

    length: int
    """Most tokens of a pack, text and image."""

    most_images: int

    too_long: Literal["cut", "quarantine"]
    """What becomes of a sample of more tokens: its last answer is cut, or it is left out."""


@dataclass(frozen=True, slots=True)
class Packs:
    """Which samples share a row."""

    order_N: NDArray[np.int32]
    """Indices of the samples, pack after pack."""

    ends_P: NDArray[np.int64]
    """Where in `order_N` each pack ends."""

    def __len__(self) -> int:
        return len(self.ends_P)

    def __getitem__(self, number: int) -> tuple[int, ...]:
        """Return the samples of one pack."""
        start = self.ends_P[number - 1] if number else 0
        return tuple(self.order_N[start : self.ends_P[number]].tolist())


def pack(tokens: ArrayLike, images: ArrayLike, limits: PackLimits, *, seed: int) -> Packs:
    """Put samples of `tokens` [N] tokens with `images` [N] images into packs within `limits`.

    Which of the samples of one size meet is left to chance, which depends on `seed` only; each sample stands in exactly
    one pack. Raises ValueError for a sample that fits into no pack.
    """
    tokens_N, images_N = np.asarray(tokens, np.int32), np.asarray(images, np.int32)
    too_large = (tokens_N > limits.length) | (images_N > limits.most_images)
    if (too_large | (tokens_N < 1)).any():
        raise ValueError(f"a sample has no token, or more than {limits.length} tokens or {limits.most_images} images")
    # The stream of RandomState is frozen, that of numpy's newer generators may change with a version.
    chance = np.random.RandomState(stable_rng(seed, "packing").getrandbits(32))
    shuffled_N = chance.permutation(len(tokens_N)).astype(np.int32)
    fill = _next_fit if limits.packing == "next-fit" else _best_fit_decreasing
    return fill(shuffled_N, tokens_N, images_N, limits)


def _next_fit(
    order_N: NDArray[np.int32], tokens_N: NDArray[np.int32], images_N: NDArray[np.int32], limits: PackLimits
) -> Packs:
    """Fill one pack after the other in the order given; what does not fit begins the next."""
    ends = array("q")
    filled = shown = 0
    for start in range(0, len(order_N), _AT_A_TIME):  # as Python's numbers they take eight times the memory
        some = order_N[start : start + _AT_A_TIME]
        sizes = zip(tokens_N[some].tolist(), images_N[some].tolist(), strict=True)
        for place, (tokens, images) in enumerate(sizes, start):
            if filled + tokens > limits.length or shown + images > limits.most_images:
                ends.append(place)
                filled = shown = 0
            filled += tokens
            shown += images
    if len(order_N):
        ends.append(len(order_N))
    return Packs(order_N, np.array(ends, np.int64))


Contents = tuple[tuple[int, int], ...]
"""What a pack holds: number of a size, and how many samples of it."""


def _best_fit_decreasing(
    shuffled_N: NDArray[np.int32], tokens_N: NDArray[np.int32], images_N: NDArray[np.int32], limits: PackLimits
) -> Packs:
    """Put the longest samples first, each into the fullest pack that takes it.

    Samples of one size, tokens and images, are all the same to the packs, so alike packs are filled at once: the work
    goes with the number of sizes, not of samples.
    """
    kinds = limits.most_images + 1
    keys_N = tokens_N.astype(np.int64) * kinds + images_N
    keys, counts = np.unique(keys_N, return_counts=True)
    open_packs = _OpenPacks(limits.most_images)
    for size in range(len(keys) - 1, -1, -1):
        tokens, images = divmod(int(keys[size]), kinds)
        left = int(counts[size])
        while left:
            place = open_packs.fullest(tokens, images)
            room, free = place or (limits.length, limits.most_images)
            there, contents = open_packs.take(place) if place else (left, ())
            each = min(left, room // tokens, free // images if images else left)
            filled = min(there, left // each)
            left -= filled * each
            if place and there > filled:
                open_packs.put(place, there - filled, contents)
            open_packs.put((room - each * tokens, free - each * images), filled, (*contents, (size, each)))

    by_size_N = shuffled_N[np.argsort(keys_N[shuffled_N], kind="stable")]
    return _laid_out(open_packs.all(), by_size_N, np.cumsum(counts) - counts)


class _OpenPacks:
    """Packs by what still goes in: tokens and images. Alike packs are kept as one and counted."""

    def __init__(self, most_images: int) -> None:
        self._packs: dict[tuple[int, int], list[tuple[int, Contents]]] = {}
        self._rooms = [0] * (most_images + 1)
        """For each number of images that still go in: the tokens that do, as the bits that are set."""

    def put(self, place: tuple[int, int], count: int, contents: Contents) -> None:
        """Add `count` packs."""
        self._packs.setdefault(place, []).append((count, contents))
        self._rooms[place[1]] |= 1 << place[0]

    def take(self, place: tuple[int, int]) -> tuple[int, Contents]:
        """Take out the alike packs that were put there last."""
        packs = self._packs[place]
        taken = packs.pop()
        if not packs:
            self._rooms[place[1]] ^= 1 << place[0]
        return taken

    def fullest(self, tokens: int, images: int) -> tuple[int, int] | None:
        """Return where the fullest packs are that take so much; None if there are none."""
        fitting = []
        for free in range(images, len(self._rooms)):
            rooms = self._rooms[free] >> tokens
            if rooms:
                fitting.append((tokens + (rooms & -rooms).bit_length() - 1, free))
        return min(fitting, default=None)

    def all(self) -> list[tuple[int, Contents]]:
        """Return counts and contents of all packs."""
        return [pack for place in sorted(self._packs) for pack in self._packs[place]]


def _laid_out(packs: list[tuple[int, Contents]], by_size_N: NDArray[np.int32], starts: NDArray[np.int64]) -> Packs:
    """Deal the samples out; those of a size begin at its place of `starts` in `by_size_N`."""
    next_of = starts.tolist()
    rows, held = [], []
    for count, contents in packs:
        columns = []
        for size, each in contents:
            begin, next_of[size] = next_of[size], next_of[size] + count * each
            columns.append(by_size_N[begin : next_of[size]].reshape(count, each))
        rows.append(np.hstack(columns))
        held.append(np.full(count, rows[-1].shape[1], np.int64))
    if not rows:
        return Packs(by_size_N, np.zeros(0, np.int64))
    return Packs(np.concatenate([row.ravel() for row in rows]), np.cumsum(np.concatenate(held)))
