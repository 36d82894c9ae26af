"""What a picture looks like, in 48 x 48 grey values: enough to find it after JPEG, resizing, a flip, a crop, a window.

Search is in two steps. Vectors of 8 x 8 means find pictures that are alike at a glance, which slices of two heads are
too. Then the fine structure is laid over each other: bands of about 2 to 12 of the 48 pixels, every place with the same
weight, as only copies share it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft
from scipy.ndimage import gaussian_filter1d

# N pictures · M pictures they are held against · P pairs · K best of each · F frames · S side of a look · D numbers of
# a glance
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

_VARIANTS = tuple((frame, flip) for frame in range(len(_FRAMES)) for flip in range(4))
"""Frame, and axes that it is turned about (1: up and down, 2: left and right); the first is the picture as it is."""


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
    within = looks is others
    for start in range(0, len(looks), _BLOCK):
        block = np.asarray(looks[start : start + _BLOCK])
        left = start if within else 0
        one, other = _candidates(block, others[left:], within)
        for first in range(0, len(one), _BLOCK):
            pairs = one[first : first + _BLOCK], other[first : first + _BLOCK]
            likeness = _likeness(block[pairs[0]], np.asarray(others[left + pairs[1]]))
            for mine, theirs, value in zip(*pairs, likeness, strict=True):
                if value >= ALIKE_FROM:
                    yield Alike(start + int(mine), left + int(theirs), float(value))


def _candidates(looks: Looks, others: Looks, within: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs, as indices [P] and [P], that are alike at a glance: of each of `looks` the best few.

    If `within`, `looks` are the first of `others`, and each is held only against those after it.
    """
    ours_FND = _glances(looks)
    best_NK = np.full((len(looks), _MOST_CANDIDATES), -1.0, np.float32)
    other_NK = np.zeros(best_NK.shape, np.int64)
    for start in range(0, len(others), _BLOCK):
        alike_NM = _alike_at_a_glance(ours_FND, _glances(np.asarray(others[start : start + _BLOCK])))
        if within and start == 0:
            alike_NM[np.tril_indices_from(alike_NM)] = -1.0
        rows = np.flatnonzero(alike_NM.max(axis=1) >= _GLANCE_FROM)
        index_M = np.arange(start, start + alike_NM.shape[1])
        alike = np.concatenate([best_NK[rows], alike_NM[rows]], axis=1)
        index = np.concatenate([other_NK[rows], np.broadcast_to(index_M, (len(rows), len(index_M)))], axis=1)
        best = np.argpartition(alike, -_MOST_CANDIDATES, axis=1)[:, -_MOST_CANDIDATES:]
        best_NK[rows] = np.take_along_axis(alike, best, axis=1)
        other_NK[rows] = np.take_along_axis(index, best, axis=1)
    one, rank = np.nonzero(best_NK >= _GLANCE_FROM)
    return one, other_NK[one, rank]


def _alike_at_a_glance(ours_FND: NDArray[np.float32], theirs_FMD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [N, M] how like two pictures are: one of them, framed and flipped, and the other as it is."""
    best_NM = ours_FND[0] @ theirs_FMD[0].T
    alike_NM = np.empty_like(best_NM)
    for frame, flip in _VARIANTS[1:]:
        np.matmul(_flipped(ours_FND[frame], flip), theirs_FMD[0].T, out=alike_NM)
        np.maximum(best_NM, alike_NM, out=best_NM)
        if frame:  # to turn one about is to turn the other about: only what is framed has two ways
            np.matmul(ours_FND[0], _flipped(theirs_FMD[frame], flip).T, out=alike_NM)
            np.maximum(best_NM, alike_NM, out=best_NM)
    return best_NM


def _glances(looks: Looks) -> NDArray[np.float32]:
    """Return unit vectors [F, N, D]: means of 8 x 8 fields inside each frame, without the brightness of the whole."""
    values = looks.astype(np.float32)
    columns = {span: values @ _fields(*span).T for span in {(left, right) for left, _, right, _ in _FRAMES}}
    glances = [_fields(top, bottom) @ columns[left, right] for left, top, right, bottom in _FRAMES]
    vectors_FND = np.stack(glances).reshape(len(_FRAMES), len(looks), -1)
    vectors_FND -= vectors_FND.mean(axis=2, keepdims=True)
    vectors_FND /= np.linalg.norm(vectors_FND, axis=2, keepdims=True) + 1e-6
    return vectors_FND


def _flipped(vectors_ND: NDArray[np.float32], flip: int) -> NDArray[np.float32]:
    """Return glances turned about neither, one or both axes."""
    fields = vectors_ND.reshape(-1, _GLANCE, _GLANCE)
    return np.ascontiguousarray(_turned(fields, flip)).reshape(vectors_ND.shape)


def _turned(values: NDArray[np.float32], flip: int) -> NDArray[np.float32]:
    return values[:, :: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1]


@cache
def _fields(start: float, end: float) -> NDArray[np.float32]:
    """Return the weights [8, S] that average pixels over eight equal fields between two shares of a side."""
    edges = SIDE * np.linspace(start, end, _GLANCE + 1)[:, None]
    covered = np.clip(edges[1:], np.arange(SIDE), np.arange(1, SIDE + 1))
    covered = covered - np.clip(edges[:-1], np.arange(SIDE), np.arange(1, SIDE + 1))
    return np.asarray(covered / covered.sum(axis=1, keepdims=True), dtype=np.float32)


def _likeness(looks: Looks, others: Looks) -> NDArray[np.float32]:
    """Return for each pair [P] how far the fine structure of one is that of the other: 0-1.

    The one is framed and flipped as it is most like the other at a glance. It is the highest correlation over small
    shifts.
    """
    framed, plain = _framed(looks, others)
    fine, fine_others = _fine_structure(framed), _fine_structure(plain)
    spectrum = fft.rfft2(fine) * np.conj(fft.rfft2(fine_others))
    over = fft.irfft2(spectrum, (SIDE, SIDE))
    near = np.r_[0 : _REACH + 1, -_REACH:0]
    highest = over[:, near][:, :, near].max(axis=(1, 2))
    strength = np.linalg.norm(fine, axis=(1, 2)) * np.linalg.norm(fine_others, axis=(1, 2))
    return np.asarray(highest / (strength + 1e-6))


def _framed(looks: Looks, others: Looks) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return of each pair the one in the variant that is most like the other at a glance, and that other as it is."""
    pairs = (looks.astype(np.float32), others.astype(np.float32))
    glances = _glances(looks), _glances(others)
    alike = np.stack(
        [
            (_flipped(glances[which][frame], flip) * glances[1 - which][0]).sum(axis=1)
            for frame, flip in _VARIANTS
            for which in (0, 1)
        ]
    )
    variant, which = np.divmod(alike.argmax(axis=0), 2)
    framed, plain = np.empty_like(pairs[0]), np.where((which == 0)[:, None, None], pairs[1], pairs[0])
    for number, (frame, flip) in enumerate(_VARIANTS):
        for side in (0, 1):
            some = (variant == number) & (which == side)
            left, top, right, bottom = _FRAMES[frame]
            framed[some] = _turned(_stretch(top, bottom) @ pairs[side][some] @ _stretch(left, right).T, flip)
    return framed, plain


@cache
def _stretch(start: float, end: float) -> NDArray[np.float32]:
    """Return the matrix [S, S] that brings the part of a side between two shares back to its whole length."""
    unit = Image.fromarray(np.eye(SIDE, dtype=np.float32))
    box = (0.0, SIDE * start, float(SIDE), SIDE * end)
    return np.asarray(unit.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box))


_WINDOW = np.sqrt(np.outer(np.hanning(SIDE + 2)[1:-1], np.hanning(SIDE + 2)[1:-1])).astype(np.float32)
"""Fades the rim, which a shift brings in from the other side."""


def _fine_structure(looks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the band [N, S, S] between fine and coarse, divided by its own strength about each place.

    So an outline that a whole set shares (the round field of fundus cameras) counts no more than what lies inside.
    """
    spread = looks / (looks.std(axis=(1, 2), keepdims=True) + 1e-3) * 50
    band = _blurred(spread, 0.6) - _blurred(spread, 2.5)
    return np.asarray(band / np.sqrt(_blurred(band * band, 3.0) + 4.0) * _WINDOW)


def _blurred(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(_blur(sigma) @ values @ _blur(sigma).T)


@cache
def _blur(sigma: float) -> NDArray[np.float32]:
    """Return the matrix [S, S] of a Gaussian along one axis."""
    return np.asarray(gaussian_filter1d(np.eye(SIDE), sigma, axis=0), dtype=np.float32)


def stacked(looks: Sequence[bytes | NDArray[np.uint8]]) -> Looks:
    """Return looks, or their bytes as a corpus stores them, as one array. Raises ValueError for another size."""
    arrays = [np.frombuffer(look, np.uint8) if isinstance(look, bytes) else look for look in looks]
    if not arrays:
        return np.zeros((0, SIDE, SIDE), np.uint8)
    return np.stack([array.reshape(SIDE, SIDE) for array in arrays])
