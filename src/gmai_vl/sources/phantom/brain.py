"""T1 MR of the head after contrast medium, a volume."""

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from gmai_vl.sources.phantom.brush import Values, fractal_noise, log_uniform, smooth_noise
from gmai_vl.sources.phantom.solid import Lesions, Mask, Space, both, ellipsoid, space
from gmai_vl.sources.phantom.study import Family, Study
from gmai_vl.vocabulary import term

GLIOMA, METASTASIS, INFARCT = range(3)


def draw_brain(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw a T1 MR of the head after contrast medium. `size` is not used: slices are scaled later."""
    at = space(rng, (92, 108, 92), rng.uniform(2.0, 2.25))
    x, y, z, _ = at
    s = rng.uniform(0.95, 1.05, size=3)
    brain = np.maximum(
        ellipsoid(at, (0, 0, 20), s * (63, 80, 60)), ellipsoid(at, (0, 12, -4), s * (58, 52, 34))
    ) + 2 * smooth_noise(rng, at.shape, 5)
    cerebellum = ellipsoid(at, (0, -40, -32), s * (44, 28, 25))
    big = rng.uniform(0.8, 1.4)
    ventricle = np.maximum(
        ellipsoid(at, (np.sign(x) * (9 + 0.0045 * (y - 5) ** 2), 0, 27 - 0.004 * y**2), (6 * big, 36, 9 * big)),
        ellipsoid(at, (0, -6, 12), (2.5 * big, 12, 8)),
    )
    signal = _head_values(rng, at, brain, cerebellum, ventricle, s)
    labels = np.zeros(at.shape, np.uint8)
    ventricle_label = (ventricle > 0) & (brain > 12) & (np.abs(x) > 1.2) & (z > 14)
    labels[ventricle_label] = 4
    labels[(cerebellum > 0)] = 5

    room = both(brain, 4 - ventricle, z + 12, -(cerebellum + 4))
    if kind == INFARCT:
        sick, site = _infarct(rng, at, signal, brain, ventricle, cerebellum)
    elif kind == GLIOMA:
        sick, site = _glioma(rng, Lesions(rng, at, room, [log_uniform(rng, 15, 28)], 0.8), signal, brain, ventricle)
    else:
        radii = [log_uniform(rng, 9, 12.5) for _ in range(rng.integers(2, 6))]
        sick, site = _metastases(rng, Lesions(rng, at, room, radii, 1.0), signal, brain, ventricle)
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
    head = np.maximum(ellipsoid(at, (0, 0, 16), s * (77, 95, 79)), ellipsoid(at, (0, 2, -42), s * (71, 83, 100)))
    flesh = 0.42 + 0.1 * fractal_noise(rng, at.shape, 9, 2)
    signal = np.where(head > 0, flesh, np.float32(0.02))
    for side in (-1, 1):  # eyes and the sinus below them
        signal = np.where(ellipsoid(at, (side * 31, 70, -28), (13, 13, 13)) > 0, 0.2, signal)
        signal = np.where(ellipsoid(at, (side * 24, 60, -62), (15, 18, 16)) > 0, 0.05, signal)
    skull = np.maximum(brain, cerebellum + 2)
    signal = np.where((skull > -10) & (head > 4), np.where(np.abs(skull + 6) < 1.6, 0.4, 0.09), signal)
    signal = np.where((head > 0) & (head < 6), 0.85, signal)
    signal = np.where(skull > -3.5, 0.16, signal)
    stem = both(ellipsoid(at, (0, -18, 0), (14, 13, np.inf)), 5 - z)
    signal = np.where((stem > 0) & (head > 8), 0.66, signal)
    leaves = np.abs(smooth_noise(rng, at.shape, (6, 8, 40)))
    signal = np.where(cerebellum > 0, np.where((leaves < 0.3) | (cerebellum < 3), 0.5, 0.66), signal)

    folds = np.abs(smooth_noise(rng, at.shape, 13))
    grey = (brain + 3 * smooth_noise(rng, at.shape, 16) < 6.5) | ((folds < 0.4) & (brain < 17))
    matter = np.where(grey, np.float32(0.44), np.float32(0.74))
    for radii, centre in (((8, 15, 9), (17, -12, 12)), ((6, 16, 9), (27, 6, 12)), ((5, 9, 6), (14, 20, 16))):
        for side in (-1, 1):
            matter = np.where(ellipsoid(at, (side * centre[0], *centre[1:]), radii) > 0, 0.5, matter)
    cleft = (np.abs(x + 1.2 * smooth_noise(rng, (1, *at.shape[1:]), 5)) < 1.6) & ((z > 38) | (np.abs(y) > 46))
    matter = np.where((folds < 0.15) & (brain < 14) | cleft, 0.18, matter)
    matter = np.where((ventricle > 0) & (brain > 12), 0.13, matter)
    return np.where(brain > 0, matter, signal).astype(np.float32)


def _glioma(rng: Generator, lesions: Lesions, signal: Values, brain: Values, ventricle: Values) -> tuple[Values, Mask]:
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
    rng: Generator, lesions: Lesions, signal: Values, brain: Values, ventricle: Values
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
    pieces, _ = ndimage.label(both(wedge, brain - 0.5, -(ventricle + 4)) > 0)
    site = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return np.where(site, 0.22 + 0.25 * np.maximum(signal - 0.5, 0), signal).astype(np.float32), site


BRAIN = Family(
    name="brain-mr",
    modality="MR",
    department="Neurosurgery",
    clinical_task="Disease Diagnosis",
    body_part=term("head"),
    lesions=(term("glioma"), term("brain metastasis"), term("ischemic infarct")),
    anatomy=(term("lateral ventricle"), term("cerebellum")),
    draw=draw_brain,
    volume=True,
)
