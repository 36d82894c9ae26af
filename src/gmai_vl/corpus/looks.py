"""What a picture looks like, in 48 x 48 grey values: enough to find it after JPEG, resizing, a flip, a crop, a window.

Search is in two steps. Vectors of 8 x 8 means find pictures that are alike at a glance, which slices of two heads are
too. Then the fine structure is laid over each other: bands of about 2 to 12 of the 48 pixels, every place with the same
weight, as only copies share it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

# N pictures · M pictures they are held against · V variants of a picture · S side of a look · D numbers of a glance
Looks = NDArray[np.uint8]
"""[N, S, S]."""

SIDE = 48
ALIKE_FROM = 0.88
"""Likeness of the fine structure from which two pictures are taken for the same; chosen in benchmarks/leaks.py."""

_GLANCE = 8
_GLANCE_FROM = 0.92
_MOST_CANDIDATES = 20
"""Of one picture; sets of thousands of slices of one plane have many that are alike at a glance."""
_REACH = 2
"""Pixels that two looks are shifted against each other at most."""
_BLOCK = 1024

_CUT = 0.05
"""Share of width and height that a crop takes off (5 %), at one end or half at each; the last variant, at each end."""
_FRAMES = (
    (0.0, 0.0, 1.0, 1.0),
    (_CUT / 2, _CUT / 2, 1 - _CUT / 2, 1 - _CUT / 2),
    (0.0, 0.0, 1 - _CUT, 1 - _CUT),
    (_CUT, 0.0, 1.0, 1 - _CUT),
    (0.0, _CUT, 1 - _CUT, 1.0),
    (_CUT, _CUT, 1.0, 1.0),
    (_CUT, _CUT, 1 - _CUT, 1 - _CUT),
)

_VARIANTS = 4 * len(_FRAMES)


@dataclass(frozen=True, slots=True)
class Alike:
    """Two pictures that look the same."""

    one: int
    """Index into the first looks."""

    other: int
    likeness: float
    """0.88-1."""


def look_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the look [S, S] of a picture [H, W] or [H, W, 3]."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))


def alike_within(looks: Looks) -> Iterator[Alike]:
    """Yield every pair of `looks` that is the same picture, `one` < `other`."""
    yield from alike_between(looks, looks)


def alike_between(looks: Looks, others: Looks) -> Iterator[Alike]:
    """Yield every pair of a picture of `looks` and one of `others` that look the same.

    Memory is that of the looks and a little more; time grows with N * M.
    """
    if not len(looks) or not len(others):
        return
    for start in range(0, len(looks), _BLOCK):
        block = looks[start : start + _BLOCK]
        pairs = _candidates(block, others)
        if looks is others:
            pairs = pairs[start + pairs["one"] < pairs["other"]]
        for first in range(0, len(pairs), _BLOCK):
            some = pairs[first : first + _BLOCK]
            one, other = block[some["one"]], others[some["other"]]
            turned = some["turned"]
            ours = np.where((turned == _ONE)[:, None, None], one, other)
            theirs = np.where((turned == _ONE)[:, None, None], other, one)
            likeness = _likeness(ours, some["variant"], theirs)
            for pair, value in zip(some, likeness, strict=True):
                if value >= ALIKE_FROM:
                    yield Alike(start + int(pair["one"]), int(pair["other"]), float(value))


_ONE, _OTHER = 0, 1
_PAIR = np.dtype(
    [("one", np.int64), ("other", np.int64), ("turned", np.int8), ("variant", np.int8), ("alike", np.float32)]
)
"""Indices of a pair, which of the two, as which variant, is most like the other as that is, and how like."""


def _candidates(looks: Looks, others: Looks) -> NDArray[np.void]:
    """Return the pairs that are alike at a glance: one of them, framed and flipped, against the other as it is.

    Of each of `looks` the best few, sorted by its index.
    """
    variants_VND = [_glances(looks, variant) for variant in range(_VARIANTS)]
    found = []
    for start in range(0, len(others), _BLOCK):
        part = others[start : start + _BLOCK]
        as_it_is_MD = _glances(part)
        best_NM = np.full((len(looks), len(part)), -1.0, dtype=np.float32)
        best_as_NM = np.zeros(best_NM.shape, dtype=np.int8)
        for variant, variant_ND in enumerate(variants_VND):
            alike = variant_ND @ as_it_is_MD.T, variants_VND[0] @ _glances(part, variant).T
            for turned, values_NM in zip((_ONE, _OTHER), alike, strict=True):
                better_NM = values_NM > best_NM
                best_NM[better_NM] = values_NM[better_NM]
                best_as_NM[better_NM] = 2 * variant + turned
        one, other = np.nonzero(best_NM >= _GLANCE_FROM)
        pairs = np.empty(len(one), dtype=_PAIR)
        pairs["one"], pairs["other"], pairs["alike"] = one, start + other, best_NM[one, other]
        pairs["variant"], pairs["turned"] = np.divmod(best_as_NM[one, other], 2)
        found.append(pairs)
    return _best_of_each(np.concatenate(found))


def _best_of_each(pairs: NDArray[np.void]) -> NDArray[np.void]:
    """Return for each `one` the pairs that are most alike, at most `_MOST_CANDIDATES`."""
    order = np.lexsort((pairs["other"], -pairs["alike"], pairs["one"]))
    pairs = pairs[order]
    firsts = np.flatnonzero(np.r_[True, pairs["one"][1:] != pairs["one"][:-1]]) if len(pairs) else np.zeros(0, int)
    rank = np.arange(len(pairs)) - np.repeat(firsts, np.diff(np.r_[firsts, len(pairs)]))
    return pairs[rank < _MOST_CANDIDATES]


def _as_variant(looks: Looks, variant: int) -> NDArray[np.float32]:
    """Return looks cut to a frame and brought back to their size, then turned about neither, one or both axes."""
    frame, flipped = divmod(variant, 4)
    if frame:
        left, top, right, bottom = (SIDE * edge for edge in _FRAMES[frame])
        looks = np.stack(
            [
                np.asarray(
                    Image.fromarray(look).resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, right, bottom))
                )
                for look in looks
            ]
        )
    return looks[:, :: -1 if flipped & 1 else 1, :: -1 if flipped & 2 else 1].astype(np.float32)


def _glances(looks: Looks, variant: int = 0) -> NDArray[np.float32]:
    """Return unit vectors [N, D] of the means of 8 x 8 fields of a variant, without the brightness of the whole."""
    frame, flipped = divmod(variant, 4)
    left, top, right, bottom = _FRAMES[frame]
    rows, columns = _fields(top, bottom), _fields(left, right)
    fields = rows[:: -1 if flipped & 1 else 1] @ looks.astype(np.float32) @ columns[:: -1 if flipped & 2 else 1].T
    vectors = fields.reshape(len(looks), -1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6))


def _fields(start: float, end: float) -> NDArray[np.float32]:
    """Return the weights [8, S] that average pixels over eight equal fields between two shares of a side."""
    edges = SIDE * np.linspace(start, end, _GLANCE + 1)[:, None]
    covered = np.clip(edges[1:], np.arange(SIDE), np.arange(1, SIDE + 1))
    covered = covered - np.clip(edges[:-1], np.arange(SIDE), np.arange(1, SIDE + 1))
    return np.asarray(covered / covered.sum(axis=1, keepdims=True), dtype=np.float32)


def _likeness(looks: Looks, variants: NDArray[np.int8], others: Looks) -> NDArray[np.float64]:
    """Return for each pair how far the fine structure of one, as its variant, is that of the other: [N], 0-1.

    It is the highest correlation over small shifts.
    """
    turned = np.concatenate([_as_variant(look[None], int(one)) for look, one in zip(looks, variants, strict=True)])
    fine, fine_others = _fine_structure(turned), _fine_structure(others.astype(np.float32))
    spectrum = np.fft.rfft2(fine) * np.conj(np.fft.rfft2(fine_others))
    over = np.fft.irfft2(spectrum, (SIDE, SIDE))
    near = np.r_[0 : _REACH + 1, -_REACH:0]
    highest = over[:, near][:, :, near].max(axis=(1, 2))
    strength = np.linalg.norm(fine, axis=(1, 2)) * np.linalg.norm(fine_others, axis=(1, 2))
    return np.asarray(highest / (strength + 1e-6))


_WINDOW = np.sqrt(np.outer(np.hanning(SIDE + 2)[1:-1], np.hanning(SIDE + 2)[1:-1]))
"""Fades the rim, which a shift brings in from the other side."""


def _fine_structure(looks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the band [N, S, S] between fine and coarse, divided by its own strength about each place.

    So an outline that a whole set shares (the round field of fundus cameras) counts no more than what lies inside.
    """
    spread = looks.astype(np.float64) / (looks.std(axis=(1, 2), keepdims=True) + 1e-3) * 50
    band = _blurred(spread, 0.6) - _blurred(spread, 2.5)
    return np.asarray(band / np.sqrt(_blurred(band * band, 3.0) + 4.0) * _WINDOW)


def _blurred(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    return np.asarray(gaussian_filter(values, (0, sigma, sigma)))


def stacked(looks: Sequence[bytes | NDArray[np.uint8]]) -> Looks:
    """Return looks, or their bytes as a corpus stores them, as one array. Raises ValueError for another size."""
    arrays = [np.frombuffer(look, np.uint8) if isinstance(look, bytes) else look for look in looks]
    if not arrays:
        return np.zeros((0, SIDE, SIDE), np.uint8)
    return np.stack([array.reshape(SIDE, SIDE) for array in arrays])
