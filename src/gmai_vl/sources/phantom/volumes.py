"""Volumes: abdominal CT in Hounsfield units, and T1 MR of the head after contrast medium."""

# Arrays are [X, Y, Z] in RAS+ order: x to the patient's right, y to the front, z to the head; lengths in mm, 0 in or
# near the middle. As in `brush`, "depth" is how far inside a shape a point lies.

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from gmai_vl.sources.phantom.brush import Values, fractal_noise, log_uniform, smooth_noise
from gmai_vl.sources.phantom.study import Family, Study
from gmai_vl.vocabulary import term

Mask = NDArray[np.bool_]
Window = tuple[slice, ...]

LIVER_TUMOR, LIVER_CYST, KIDNEY_CYST = range(3)
GLIOMA, METASTASIS, INFARCT = range(3)


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


def _space(rng: Generator, shape: tuple[int, int, int], pitch: float) -> Space:
    axes = [((np.arange(n) - (n - 1) / 2) * pitch + rng.uniform(-6, 6)).astype(np.float32) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    lean, nod = (np.float32(rng.normal(0, 0.04)) for _ in range(2))
    return Space(x + lean * z, y + nod * z, z, pitch)


def _ellipsoid(at: Space, centre: Sequence[float | Values], radii: Sequence[float] | Values) -> Values:
    """Return the depth in an ellipsoid; an infinite radius makes it a cylinder. `centre` may vary in space."""
    total = sum(
        ((axis - middle) * np.float32(1 / r)) ** 2 for axis, middle, r in zip(at[:3], centre, radii, strict=True)
    )
    return np.broadcast_to((1 - np.sqrt(total)) * np.float32(min(radii)), at.shape)


def _both(*depths: Values) -> Values:
    """Return the depth in the intersection."""
    return reduce(np.minimum, depths)


class _Lesions:
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


def draw_abdomen(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw a CT of the upper abdomen in the portal venous phase. `size` is not used: slices are scaled later."""
    at = _space(rng, (120, 88, 76), rng.uniform(2.8, 3.1))
    x, y, z, _ = at
    wide, deep = rng.uniform(138, 155), rng.uniform(96, 114)
    girth = (np.abs(x / wide) ** 2.3 + np.abs(y / deep) ** 2.3) ** (1 / 2.3)
    body = (1 - girth) * deep
    fat, back = rng.uniform(7, 22), deep / 110
    cavity = np.broadcast_to(body - fat - 9, at.shape)
    spine = _ellipsoid(at, (0, -54 * back, 0), (21, 18, np.inf))
    dome = (
        rng.uniform(64, 88) - 0.005 * (np.abs(x) - 62) ** 2 - 0.006 * (y - 8) ** 2 + 4 * smooth_noise(rng, at.shape, 4)
    )

    lift = rng.uniform(-12, 8, size=2)
    kidneys = [
        _ellipsoid(
            at, (side * (58 - 0.14 * (z + 30)), -36 * back, -34 + shift), rng.uniform(0.9, 1.1) * np.array((27, 25, 50))
        )
        for side, shift in ((1, lift[0] - 6), (-1, lift[1] + 4))
    ]
    bumps = 6 * smooth_noise(rng, at.shape, 5)
    liver = np.maximum(
        _ellipsoid(at, (74, 10, 26), rng.uniform(0.9, 1.1) * np.array((80, 76, 80))),
        _ellipsoid(at, (0, 44, 36), (rng.uniform(55, 85), 36, 36)),
    )
    liver = _both(liver + bumps, cavity - 2, dome - z - 3, -(kidneys[0] + 5), -(spine + 16))
    spleen = _both(
        _ellipsoid(at, (-102 * wide / 155, -26, 34), rng.uniform(0.85, 1.15) * np.array((34, 46, 44))) + 0.5 * bumps,
        cavity - 2, dome - z - 3, -(kidneys[1] + 4),
    )  # fmt: skip
    hu = _abdomen_values(rng, at, body, fat, cavity, dome, back)
    enhanced = rng.uniform(0.8, 1.15)
    portal = np.abs(smooth_noise(rng, at.shape, 7))
    hu = np.where(liver > 0, enhanced * np.where((portal < 0.09) & (liver > 7), 160, 108), hu)
    hu = np.where(spleen > 0, enhanced * 124, hu)
    labels = np.zeros(at.shape, np.uint8)
    for index, organ in enumerate((liver, spleen, kidneys[1], kidneys[0])):
        labels[organ > 0] = 4 + index
    for side, kidney in zip((1, -1), kidneys, strict=True):
        sinus = _ellipsoid(at, (side * (50 - 0.14 * (z + 30)), -33 * back, -34), (13, 9, 24))
        hu = np.where(kidney > 0, enhanced * np.where(kidney > 8, 125, 175), hu)
        hu = np.where((sinus > 0) & (kidney > 3), -20, hu)

    if kind == KIDNEY_CYST:
        kidney = np.maximum(*kidneys)
        room = _both(
            6 - np.abs(kidney - 2), 0.15 * cavity, -(liver + 2), -(spleen + 2), 0.1 * (-20 - z), np.abs(x) - 55
        )
        radii, inside = [log_uniform(rng, 17, 31) for _ in range(rng.choice((1, 2), p=(0.6, 0.4)))], 0.0
    else:
        room, inside = liver, 0.7
        radii = [log_uniform(rng, 17, 38) for _ in range(rng.choice((1, 2, 3), p=(0.5, 0.3, 0.2)))]
    lesions = _Lesions(rng, at, room, radii, inside)
    site = np.zeros(at.shape, bool)
    sick = hu.copy()
    for window, depth in lesions.windows(rng, 4, roughness=0.12 if kind == LIVER_TUMOR else 0.04):
        depth = _both(depth, cavity[window])
        if kind == LIVER_TUMOR:
            core = 40 + 26 * fractal_noise(rng, depth.shape, 6, 2)
            value = np.where(depth < 5.5, 175 + 20 * smooth_noise(rng, depth.shape, 6), core)
        else:
            value = np.where(depth < 2, 25, 4)
        sick[window] = np.where(depth > 0, value, sick[window])
        site[window] |= depth > 0
    if not healthy:
        hu = sick
        labels[site] = 1 + kind
    hu = ndimage.gaussian_filter(hu, 0.55) + 11 * rng.standard_normal(at.shape, dtype=np.float32)
    level, width = rng.uniform(20, 75), rng.uniform(330, 430)
    return Study(
        image=np.rint(hu).astype(np.int16), labels=labels, healthy=healthy, spacing_mm=(at.pitch,) * 3,
        window=(level - width / 2, level + width / 2), lesion_site=site,
    )  # fmt: skip


def _abdomen_values(
    rng: Generator, at: Space, body: Values, fat: float, cavity: Values, dome: Values, back: float
) -> Values:
    """Return Hounsfield units of everything but liver, spleen and kidneys."""
    x, y, z, _ = at
    hu = np.where(body > 0, np.float32(-100), np.float32(-1000))
    hu = np.where(body > fat, np.float32(55), hu)
    # Ribs circle the cavity in a helix, so that every plane cuts some.
    rib = np.cos((z + 0.35 * y) * (2 * np.pi / 34)) > 0.55
    hu = np.where((body > fat + 1) & (cavity < -1) & rib & (z > -25) & (np.abs(x) > 30), 320, hu)
    loops = smooth_noise(rng, at.shape, 15) + 0.1
    bowel = np.where(loops > 0, 38 + 15 * loops, -95)
    bowel = np.where((smooth_noise(rng, at.shape, 8) > 1.7) & (y > 0), -500, bowel)
    hu = np.where(cavity > 0, bowel, hu)
    stomach = _both(_ellipsoid(at, (-58, 44, 36), (44, 34, 42)), cavity - 3)
    hu = np.where(stomach > 0, np.where(stomach < 4, 75, np.where(y > 56, -850, 15)), hu)
    hu = np.where((cavity > 0) & (z > dome), -840, hu)
    hu = np.where(_both(_ellipsoid(at, (-22, 25, 122), (62, 50, 46)), cavity - 4) > 0, 120, hu)
    for side in (-1, 1):
        hu = np.where(_ellipsoid(at, (side * 40, -68 * back, 0), (29, 24, np.inf)) > 0, 60, hu)
    hu = np.where(_ellipsoid(at, (-12, -27 * back, 0), (11, 11, np.inf)) > 0, 185, hu)
    hu = np.where(_ellipsoid(at, (16, -26 * back, 0), (13, 10, np.inf)) > 0, 130, hu)
    disc = np.cos((z + 9) * (2 * np.pi / 34)) > 0.75
    bone = np.where(disc, 95, 230 + 40 * smooth_noise(rng, at.shape, 24))
    spine = _ellipsoid(at, (0, -54 * back, 0), (21, 18, np.inf))
    hu = np.where(spine > 0, np.where((spine < 3) & ~disc, 420, bone), hu)
    arch = _ellipsoid(at, (0, -84 * back, 0), (19, 14, np.inf))
    hu = np.where(arch > 0, 330, hu)
    return np.where(_ellipsoid(at, (0, -80 * back, 0), (9, 8, np.inf)) > 0, 30, hu).astype(np.float32)


def draw_brain(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw a T1 MR of the head after contrast medium. `size` is not used: slices are scaled later."""
    at = _space(rng, (92, 108, 92), rng.uniform(2.0, 2.25))
    x, y, z, _ = at
    s = rng.uniform(0.95, 1.05, size=3)
    brain = np.maximum(
        _ellipsoid(at, (0, 0, 20), s * (63, 80, 60)), _ellipsoid(at, (0, 12, -4), s * (58, 52, 34))
    ) + 2 * smooth_noise(rng, at.shape, 5)
    cerebellum = _ellipsoid(at, (0, -40, -32), s * (44, 28, 25))
    big = rng.uniform(0.8, 1.4)
    ventricle = np.maximum(
        _ellipsoid(at, (np.sign(x) * (9 + 0.0045 * (y - 5) ** 2), 0, 27 - 0.004 * y**2), (6 * big, 36, 9 * big)),
        _ellipsoid(at, (0, -6, 12), (2.5 * big, 12, 8)),
    )
    signal = _head_values(rng, at, brain, cerebellum, ventricle, s)
    labels = np.zeros(at.shape, np.uint8)
    ventricle_label = (ventricle > 0) & (brain > 12) & (np.abs(x) > 1.2) & (z > 14)
    labels[ventricle_label] = 4
    labels[(cerebellum > 0)] = 5

    room = _both(brain, 4 - ventricle, z + 12, -(cerebellum + 4))
    if kind == INFARCT:
        sick, site = _infarct(rng, at, signal, brain, ventricle, cerebellum)
    elif kind == GLIOMA:
        sick, site = _glioma(rng, _Lesions(rng, at, room, [log_uniform(rng, 15, 28)], 0.8), signal, brain, ventricle)
    else:
        radii = [log_uniform(rng, 9, 12.5) for _ in range(rng.integers(2, 6))]
        sick, site = _metastases(rng, _Lesions(rng, at, room, radii, 1.0), signal, brain, ventricle)
    if not healthy:
        signal = sick
        labels[site] = 1 + kind
    bias = 1 + 0.09 * smooth_noise(rng, at.shape, 2)
    signal = ndimage.gaussian_filter(signal, 0.5) * bias
    signal = np.abs(signal + 0.022 * rng.standard_normal(at.shape, dtype=np.float32)) * rng.uniform(700, 1300)
    top = rng.uniform(0.95, 1.25) * np.percentile(signal[::3, ::3, ::3], 99.5)
    return Study(
        image=np.rint(signal).astype(np.int16), labels=labels, healthy=healthy, spacing_mm=(at.pitch,) * 3,
        window=(rng.uniform(-0.06, 0.06) * top, top), lesion_site=site,
    )  # fmt: skip


def _head_values(rng: Generator, at: Space, brain: Values, cerebellum: Values, ventricle: Values, s: Values) -> Values:
    """Return the signal, about 0-1, of a healthy head."""
    x, y, z, _ = at
    head = np.maximum(_ellipsoid(at, (0, 0, 16), s * (77, 95, 79)), _ellipsoid(at, (0, 2, -42), s * (71, 83, 100)))
    flesh = 0.42 + 0.1 * fractal_noise(rng, at.shape, 9, 2)
    signal = np.where(head > 0, flesh, np.float32(0.02))
    for side in (-1, 1):  # eyes and the sinus below them
        signal = np.where(_ellipsoid(at, (side * 31, 70, -28), (13, 13, 13)) > 0, 0.2, signal)
        signal = np.where(_ellipsoid(at, (side * 24, 60, -62), (15, 18, 16)) > 0, 0.05, signal)
    skull = np.maximum(brain, cerebellum + 2)
    signal = np.where((skull > -10) & (head > 4), np.where(np.abs(skull + 6) < 1.6, 0.4, 0.09), signal)
    signal = np.where((head > 0) & (head < 6), 0.85, signal)
    signal = np.where(skull > -3.5, 0.16, signal)
    stem = _both(_ellipsoid(at, (0, -18, 0), (14, 13, np.inf)), 5 - z)
    signal = np.where((stem > 0) & (head > 8), 0.66, signal)
    leaves = np.abs(smooth_noise(rng, at.shape, (6, 8, 40)))
    signal = np.where(cerebellum > 0, np.where((leaves < 0.3) | (cerebellum < 3), 0.5, 0.66), signal)

    folds = np.abs(smooth_noise(rng, at.shape, 13))
    grey = (brain + 3 * smooth_noise(rng, at.shape, 16) < 6.5) | ((folds < 0.4) & (brain < 17))
    matter = np.where(grey, np.float32(0.44), np.float32(0.74))
    for radii, centre in (((8, 15, 9), (17, -12, 12)), ((6, 16, 9), (27, 6, 12)), ((5, 9, 6), (14, 20, 16))):
        for side in (-1, 1):
            matter = np.where(_ellipsoid(at, (side * centre[0], *centre[1:]), radii) > 0, 0.5, matter)
    cleft = (np.abs(x + 1.2 * smooth_noise(rng, (1, *at.shape[1:]), 5)) < 1.6) & ((z > 38) | (np.abs(y) > 46))
    matter = np.where((folds < 0.15) & (brain < 14) | cleft, 0.18, matter)
    matter = np.where((ventricle > 0) & (brain > 12), 0.13, matter)
    return np.where(brain > 0, matter, signal).astype(np.float32)


def _glioma(rng: Generator, lesions: _Lesions, signal: Values, brain: Values, ventricle: Values) -> tuple[Values, Mask]:
    """A large jagged ring that takes up contrast medium, dead inside, with oedema about it."""
    sick, site = signal.copy(), np.zeros(signal.shape, bool)
    for window, depth in lesions.windows(rng, 16, roughness=0.13):
        depth = np.minimum(depth, brain[window] - 1)
        _swell(rng, sick, window, depth, brain, ventricle, 12)
        ring = 4.5 + 2.5 * smooth_noise(rng, depth.shape, 5)
        value = np.where(depth < ring, 1.0, 0.24 + 0.1 * fractal_noise(rng, depth.shape, 6, 2))
        sick[window] = np.where(depth > 0, value, sick[window])
        site[window] |= depth > 0
    return sick, site


def _metastases(
    rng: Generator, lesions: _Lesions, signal: Values, brain: Values, ventricle: Values
) -> tuple[Values, Mask]:
    """Several small bright balls, each with a ring of oedema."""
    sick, site = signal.copy(), np.zeros(signal.shape, bool)
    windows = lesions.windows(rng, 10, roughness=0.04)
    for window, depth in windows:
        _swell(rng, sick, window, depth, brain, ventricle, 7)
    for window, depth in windows:
        sick[window] = np.where(depth > 0, 1.02, sick[window])
        site[window] |= depth > 0
    return sick, site


def _swell(
    rng: Generator,
    sick: Values,
    window: tuple[slice, ...],
    depth: Values,
    brain: Values,
    ventricle: Values,
    reach: float,
) -> None:
    """Darken the brain around a lesion: oedema."""
    wet = (depth > -reach * (0.8 + 0.4 * smooth_noise(rng, depth.shape, 4))) & (brain[window] > 4)
    sick[window] = np.where(wet & (ventricle[window] < 0), 0.4, sick[window])


def _infarct(
    rng: Generator, at: Space, signal: Values, brain: Values, ventricle: Values, cerebellum: Values
) -> tuple[Values, Mask]:
    """A dark wedge with its base on the surface of the brain and its tip inside."""
    shell = np.argwhere((np.abs(brain - 2) < 2) & (np.abs(at.x) > 22) & (at.z > 8) & (cerebellum < -8))
    base = shell[rng.integers(len(shell))]
    place = np.array([np.broadcast_to(axis, at.shape)[tuple(base)] for axis in at[:3]])
    inwards = np.array((0, 0, 16)) - place
    inwards /= np.linalg.norm(inwards)
    length, opening = rng.uniform(34, 50), np.tan(np.radians(rng.uniform(24, 34)))
    tip = place + length * inwards
    offset = [axis - float(middle) for axis, middle in zip(at[:3], tip, strict=True)]
    along = -sum(delta * np.float32(part) for delta, part in zip(offset, inwards, strict=True))
    across = np.sqrt(np.maximum(sum(delta**2 for delta in offset) - along**2, 0))
    wedge = along * np.float32(opening) - across + 3 * smooth_noise(rng, at.shape, 8)
    pieces, _ = ndimage.label(_both(wedge, brain - 0.5, -(ventricle + 4)) > 0)
    site = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return np.where(site, 0.22 + 0.25 * np.maximum(signal - 0.5, 0), signal).astype(np.float32), site


VOLUME_FAMILIES = (
    Family(
        name="abdomen-ct",
        modality="CT",
        department="General Surgery",
        clinical_task="Disease Diagnosis",
        body_part=term("abdomen"),
        lesions=(term("liver tumor"), term("liver cyst"), term("kidney cyst")),
        anatomy=(term("liver"), term("spleen"), term("left kidney"), term("right kidney")),
        draw=draw_abdomen,
        volume=True,
    ),
    Family(
        name="brain-mr",
        modality="MR",
        department="Neurosurgery",
        clinical_task="Disease Diagnosis",
        body_part=term("head"),
        lesions=(term("glioma"), term("brain metastasis"), term("ischemic infarct")),
        anatomy=(term("lateral ventricle"), term("cerebellum")),
        draw=draw_brain,
        volume=True,
    ),
)
