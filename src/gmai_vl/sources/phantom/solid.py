"""Drawing in three dimensions: coordinates, shapes and lesions of volumes in RAS+ order."""

# Arrays are [X, Y, Z]: x to the patient's right, y to the front, z to the head; lengths in mm, 0 in or near the middle.
# As in `brush`, "depth" is how far inside a shape a point lies.

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gmai_vl.sources.phantom.brush import Values, smooth_noise

Mask = NDArray[np.bool_]
Window = tuple[slice, ...]


class Space(NamedTuple):
    """Coordinates of the voxels, broadcastable to [X, Y, Z]: the body leans a little, so x and y may depend on z."""

    x: Values
    y: Values
    z: Values
    pitch: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume."""
        return self.x.shape[0], self.y.shape[1], self.z.shape[2]


def space(rng: Generator, shape: tuple[int, int, int], pitch: float) -> Space:
    """Return the coordinates of a patient who lies a little off centre and aslant; `pitch` in mm."""
    axes = [((np.arange(n) - (n - 1) / 2) * pitch + rng.uniform(-6, 6)).astype(np.float32) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    lean, nod = (np.float32(rng.normal(0, 0.04)) for _ in range(2))
    return Space(x + lean * z, y + nod * z, z, pitch)


def ellipsoid(at: Space, centre: Sequence[float | Values], radii: Sequence[float] | Values) -> Values:
    """Return the depth in an ellipsoid; an infinite radius makes it a cylinder. `centre` may vary in space."""
    total = sum(
        ((axis - middle) * np.float32(1 / r)) ** 2 for axis, middle, r in zip(at[:3], centre, radii, strict=True)
    )
    return np.broadcast_to((1 - np.sqrt(total)) * np.float32(min(radii)), at.shape)


def both(*depths: Values) -> Values:
    """Return the depth in the intersection."""
    return reduce(np.minimum, depths)


class Lesions:
    """Round lesions to be: places chosen, their shapes given as windows of the volume."""

    def __init__(self, rng: Generator, at: Space, room: Values, radii: Sequence[float], inside: float) -> None:
        """Choose places where `room`, a depth, holds `inside` of the radius, 9 mm apart, as `brush.spots` does."""
        self.at = at
        self.placed: list[tuple[Values, float]] = []
        for wanted in sorted(radii, reverse=True):
            for radius in (wanted, 0.85 * wanted, 0.7 * wanted):
                free = np.argwhere(room > inside * radius)
                for place, other in self.placed:
                    free = free[np.hypot.reduce((free - place) * at.pitch, axis=1) > radius + other + 9]
                if len(free):
                    break
            else:
                if self.placed:
                    continue
                free = np.argwhere(room == room.max())
            self.placed.append((free[rng.integers(len(free))].astype(float), radius))

    def windows(self, rng: Generator, margin: float, roughness: float) -> list[tuple[Window, Values]]:
        """Return of each lesion the window around it, `margin` mm wider, and the depth [x, y, z] in it."""
        found = []
        for place, radius in self.placed:
            reach = (1.4 * radius + margin) / self.at.pitch
            window = tuple(
                slice(max(0, int(p - reach)), min(n, int(p + reach) + 2))
                for p, n in zip(place, self.at.shape, strict=True)
            )
            axes = [(np.arange(w.start, w.stop) - p) * self.at.pitch for w, p in zip(window, place, strict=True)]
            stretch = np.exp(rng.normal(0, 0.12, size=3))
            distance = np.sqrt(sum(axis**2 for axis in np.ix_(*(a * s for a, s in zip(axes, stretch, strict=True)))))
            waves = np.clip(smooth_noise(rng, distance.shape, 4), -2, 2)
            found.append((window, (radius * (1 + roughness * waves) - distance).astype(np.float32)))
        return found
