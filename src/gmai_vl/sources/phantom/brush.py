"""Drawing by formula: noise, soft-edged shapes, strokes, stamps and speckle, all vectorised and seeded."""

# H rows · W columns. Places and lengths of pictures are in units where the image spans -1 to 1, x to the right and
# y down. "Depth" is how far inside a shape a point lies: positive inside, 0 on the border, negative outside.

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

Values = NDArray[Any]
"""Single-precision numbers."""
Point = tuple[float, float]


@cache
def canvas(size: int) -> tuple[Values, Values]:
    """Return x and y of the pixel centres, each [size, size], read-only."""
    steps = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    x_HW, y_HW = (np.ascontiguousarray(plane) for plane in np.meshgrid(steps, steps))
    x_HW.flags.writeable = y_HW.flags.writeable = False
    return x_HW, y_HW


@cache
def _spline_weights(pixels: int, cells: int) -> tuple[NDArray[np.intp], Values]:
    """Return for every pixel the first of the four knots around it, and their cubic B-spline weights [4, pixels]."""
    at = (np.arange(pixels) + 0.5) * (cells / pixels)
    first = np.floor(at).astype(np.intp)
    t = at - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    return first, weights.astype(np.float32)


def smooth_noise(rng: Generator, shape: Sequence[int], cells: Sequence[int] | int) -> Values:
    """Return smooth noise of `shape`, mean about 0 and deviation about 1, with `cells` bumps along each axis."""
    counts = [cells] * len(shape) if isinstance(cells, int) else list(cells)
    field = rng.standard_normal([count + 3 for count in counts], dtype=np.float32)
    for axis, (pixels, count) in enumerate(zip(shape, counts, strict=True)):
        first, weights = _spline_weights(pixels, count)
        across = [1] * field.ndim
        across[axis] = pixels
        # A sum in a fixed order rather than a matrix product: BLAS may add in another order with other threads.
        field = sum(np.take(field, first + knot, axis) * weights[knot].reshape(across) for knot in range(4))
        field *= np.float32(1.44)  # a cubic B-spline lowers the deviation of white noise to 0.69 along each axis
    return field


def fractal_noise(rng: Generator, shape: Sequence[int], cells: int, octaves: int, fade: float = 0.55) -> Values:
    """Return a sum of `octaves` smooth noises, each twice as fine and `fade` times as strong, deviation about 1."""
    strengths = fade ** np.arange(octaves, dtype=np.float32)
    strengths /= np.sqrt((strengths**2).sum())
    return sum(
        strength * smooth_noise(rng, shape, cells * 2**octave) for octave, strength in enumerate(strengths.tolist())
    )


def soft(depth: Values, edge: float) -> Values:
    """Return coverage 0-1 of a shape: 0.5 on its border, blurred over a width of `edge`."""
    ramp = np.clip(depth * np.float32(1 / edge) + np.float32(0.5), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def turned(x: Values, y: Values, centre: Point, turn: float) -> tuple[Values, Values]:
    """Return coordinates around `centre`, turned by `turn` radians."""
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    return dx * cos + dy * sin, dy * cos - dx * sin


def ellipse(x: Values, y: Values, centre: Point, radii: Point, turn: float = 0.0) -> Values:
    """Return the depth in an ellipse; exact on its axes, roughly so elsewhere."""
    along, across = turned(x, y, centre, turn)
    rho = np.hypot(along * np.float32(1 / radii[0]), across * np.float32(1 / radii[1]))
    return (1 - rho) * np.float32(min(radii))


def blob(
    rng: Generator, x: Values, y: Values, centre: Point, radius: float, *, roughness: float, stretch: float = 1.0,
    lobes: tuple[int, int] = (2, 6),
) -> Values:  # fmt: skip
    """Return the depth in a star-shaped blob, one piece by construction.

    Its border waves `lobes` times per turn by `roughness` of the radius (standard deviation, at most about 0.3);
    `stretch` is length over width at a random angle, at equal area.
    """
    along, across = turned(x, y, centre, rng.uniform(0, np.pi))
    along, across = along * np.float32(stretch**-0.5), across * np.float32(stretch**0.5)
    rho = np.hypot(along, across) + np.float32(1e-6)
    turn = (along + 1j * across).astype(np.complex64) / rho
    orders = np.arange(lobes[0], lobes[1] + 1)
    waves = (rng.standard_normal(len(orders)) + 1j * rng.standard_normal(len(orders))) / orders**0.6
    waves *= roughness / np.sqrt((np.abs(waves) ** 2).sum() / 2)
    border = np.ones_like(rho)
    power = turn ** int(orders[0])
    for wave in waves.astype(np.complex64):
        border += wave.real * power.real - wave.imag * power.imag
        power *= turn
    return np.maximum(border, np.float32(0.25)) * np.float32(radius) - rho


def largest_piece(mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 4-connected piece of a mask."""
    pieces, count = ndimage.label(mask_HW)
    return mask_HW if count < 2 else pieces == np.bincount(pieces.ravel())[1:].argmax() + 1


def radius_of(share: float) -> float:
    """Return the radius of a circle that covers `share` of the image."""
    return float(np.sqrt(share * 4 / np.pi))


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Return a number between two positive ones, every ratio as likely as any other."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def spots(
    rng: Generator, x_HW: Values, y_HW: Values, room_HW: Values, radii: Sequence[float], gap: float, inside: float = 0.8
) -> list[tuple[Point, float]]:
    """Choose places for round things of `radii` where `room_HW`, a depth, holds `inside` of their radius.

    They keep `gap` between each other. One that finds no room shrinks by steps to 60 %, then is left out, except the
    first, which then stands where the room is deepest. Returns ((x, y), radius) of each.
    """
    placed: list[tuple[Point, float]] = []
    room_HW = room_HW.copy()
    for wanted in sorted(radii, reverse=True):
        for radius in (wanted, 0.8 * wanted, 0.6 * wanted):
            free = np.flatnonzero((room_HW > inside * radius) & _apart(x_HW, y_HW, placed, radius + gap))
            if len(free):
                break
        else:
            if placed:
                continue
            free = np.array([room_HW.argmax()])
        at = rng.choice(free)
        placed.append(((float(x_HW.flat[at]), float(y_HW.flat[at])), radius))
    return placed


def _apart(x_HW: Values, y_HW: Values, placed: list[tuple[Point, float]], distance: float) -> NDArray[np.bool_]:
    apart = np.ones(x_HW.shape, bool)
    for (x, y), radius in placed:
        apart &= (x_HW - x) ** 2 + (y_HW - y) ** 2 > (radius + distance) ** 2
    return apart


def strokes(size: int, lines: Sequence[Values], width: float) -> Values:
    """Return coverage 0-1 of lines [N, 2] of x, y with soft edges and `width`; give points closer than a pixel."""
    if not lines:
        return np.zeros((size, size), np.float32)
    sigma = max(width * size / 4, 0.45)
    # Each point lays down its share of the line's length in pixels, so that the density along the line is 1 per pixel.
    shares = [np.hypot(*np.diff(line, axis=0).T).sum() * size / 2 / len(line) for line in lines]
    weights = np.repeat(shares, [len(line) for line in lines])
    columns, rows = np.rint((np.concatenate(lines).T + 1) * (size / 2) - 0.5).astype(np.intp)
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    ink = np.bincount((rows * size + columns)[inside], weights[inside], minlength=size * size)
    ink = ndimage.gaussian_filter(ink.reshape(size, size).astype(np.float32), sigma)
    return np.clip(ink * np.float32(sigma * 2.5), 0, 1)


def wander(rng: Generator, start: Point, heading: float, length: float, *, bend: float, curve: float = 0.0) -> Values:
    """Return a curve [N, 2] from `start` that turns by `curve` radians over its length, give or take `bend`."""
    points = 8 + int(130 * length)
    turns = np.append(0, rng.normal(curve / 4, bend / 2, size=4).cumsum())
    headings = heading + np.interp(np.linspace(0, 4, points), range(5), turns)
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / points)
    return np.asarray(start) + steps.cumsum(axis=0)


def branches(
    rng: Generator, start: Point, heading: float, length: float, *, bend: float, depth: int, curve: float = 0.0
) -> list[list[Values]]:
    """Return a tree of curves, one list per level from the trunk, which alone has the `curve`, outwards."""
    levels: list[list[Values]] = [[wander(rng, start, heading, length, bend=bend, curve=curve)]]
    for _ in range(depth):
        length *= 0.6
        following = []
        for parent in levels[-1]:
            for at in rng.integers(len(parent) // 4, len(parent) - 2, size=rng.integers(2, 4)):
                along = parent[at + 1] - parent[at]
                direction = float(np.arctan2(along[1], along[0])) + rng.choice((-1, 1)) * rng.uniform(0.3, 0.9)
                following.append(wander(rng, tuple(parent[at]), direction, length, bend=bend))
        levels.append(following)
    return levels


def stamps(size: int, places: Values, shapes: Values, rng: Generator) -> Values:
    """Press one of the small pictures `shapes` [K, S, S], S odd, on each of `places` [N, 2] (x, y); the higher wins."""
    reach = shapes.shape[1] // 2
    columns, rows = np.rint((places.T + 1) * (size / 2) - 0.5).astype(np.intp)
    which = rng.integers(len(shapes), size=len(places))
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    wide = size + 2 * reach
    offsets = (np.arange(shapes.shape[1])[:, None] * wide + np.arange(shapes.shape[2])).ravel()
    at = (rows * wide + columns)[inside][:, None] + offsets
    image = np.zeros(wide * wide, np.float32)
    np.maximum.at(image, at.ravel(), shapes.reshape(len(shapes), -1)[which[inside]].astype(np.float32).ravel())
    return image.reshape(wide, wide)[reach : reach + size, reach : reach + size]


def ovals(
    rng: Generator, size: int, radii: tuple[float, float], stretch: float, count: int, turn: float | None = None
) -> Values:
    """Return stamps [count, S, S] of soft ovals: radius between `radii`, up to `stretch` longer than wide.

    They lie at any angle, or near `turn` where it is given.
    """
    side = 2 * int(np.ceil(radii[1] * stretch * size / 2)) + 3
    axis = (np.arange(side) - side // 2) * (2 / size)
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    drawn = []
    for _ in range(count):
        radius, long = rng.uniform(*radii), rng.uniform(1, stretch) ** 0.5
        angle = rng.uniform(0, np.pi) if turn is None else rng.normal(turn, 0.25)
        drawn.append(soft(ellipse(x, y, (0, 0), (radius * long, radius / long), angle), 3 / size))
    return np.stack(drawn)


def scatter(rng: Generator, spacing: float, jitter: float) -> Values:
    """Return places [N, 2] all over the image: a honeycomb of `spacing`, each place moved by up to `jitter` of it."""
    x, y = np.meshgrid(np.arange(-1, 1, spacing), np.arange(-1, 1, spacing * 0.87))
    x[::2] += spacing / 2
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    return places + rng.uniform(-jitter, jitter, size=places.shape) * spacing


def at_places(plane_HW: Values, places: Values) -> Values:
    """Return the values [N] of a plane at `places` [N, 2] (x, y), those outside taken from its edge."""
    size = len(plane_HW)
    columns, rows = np.clip(np.rint((places.T + 1) * (size / 2) - 0.5).astype(np.intp), 0, size - 1)
    return plane_HW[rows, columns]


def speckle(rng: Generator, size: int, grain: tuple[float, float]) -> Values:
    """Return fully developed speckle, a Rayleigh amplitude of mean 1; `grain` is its size (rows, columns) in pixels."""
    waves = [ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), grain) for _ in range(2)]
    amplitude = np.hypot(*waves)
    return amplitude / amplitude.mean()


def rgb(colour: tuple[float, float, float]) -> Values:
    """Return a colour as [3, 1, 1]. Colour pictures are [3, H, W] until they become bytes: that is twice as fast."""
    return np.array(colour, np.float32)[:, None, None]


def over(below: Values, above: Values | float | tuple[float, float, float], coverage: Values) -> Values:
    """Paint a picture, a grey or a colour over `below` where `coverage` [H, W] says."""
    paint = rgb(above) if isinstance(above, tuple) else above
    return below + (paint - below) * coverage


def bent(picture: Values, bend: float) -> Values:
    """Return 0-1 with middle tones lifted (`bend` above 0, at most 1) or lowered (below 0, at least -1)."""
    picture = np.clip(picture, 0, 1)
    return picture + np.float32(bend) * picture * (1 - picture)


def to_bytes(picture: Values) -> NDArray[np.uint8]:
    """Return 0-1 as 0-255: [H, W] as it stands, [3, H, W] as [H, W, 3]."""
    levels = (np.clip(picture, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return levels if levels.ndim == 2 else np.ascontiguousarray(np.moveaxis(levels, 0, 2))
