"""Grey pictures: the chest X-ray and the breast ultrasound."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from gmai_vl.sources.phantom.brush import (
    Point,
    Values,
    bent,
    blob,
    branches,
    canvas,
    ellipse,
    fractal_noise,
    largest_piece,
    log_uniform,
    over,
    radius_of,
    smooth_noise,
    soft,
    speckle,
    spots,
    strokes,
    to_bytes,
    turned,
    wander,
)
from gmai_vl.sources.phantom.study import Family, Study
from gmai_vl.vocabulary import term

NODULE, CONSOLIDATION, EFFUSION = range(3)
CYST, MASS = range(2)


def draw_chest(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw a frontal chest X-ray; the patient's right is on the image left."""
    x_HW, y_HW = _posed(rng, size)
    stature = rng.uniform(0.94, 1.05)
    dome_right, dome_left = rng.uniform(0.42, 0.56), rng.uniform(0.46, 0.62)
    lungs = [_lung(rng, x_HW, y_HW, side, dome, stature) for side, dome in ((-1, dome_right), (1, dome_left))]
    lung = np.maximum(*lungs)
    away = np.abs(x_HW)
    torso = 0.95 * stature - away - 0.1 * np.maximum(0.2 - y_HW, 0) ** 2 + 0.03 * smooth_noise(rng, (size, size), 3)
    torso = np.minimum(torso, 0.55 + y_HW + np.sqrt(np.maximum(1.05 - away**2, 0)) - 0.6 * away)
    heart = ellipse(x_HW, y_HW, (0.12, dome_left - 0.2), (rng.uniform(0.28, 0.37), rng.uniform(0.24, 0.3)), 0.5)
    mediastinum = 0.13 + 0.05 * y_HW - away + 0.02 * smooth_noise(rng, (size, size), 4)

    picture = 0.1 + 0.52 * soft(torso, 0.2)
    picture += 0.05 * fractal_noise(rng, (size, size), 4, 3)
    picture -= rng.uniform(0.32, 0.42) * soft(lung, 0.07)
    vessels = [
        line
        for side in (-1, 1)
        for heading in rng.uniform(-1.3, 1.3, size=5)
        for level in branches(
            rng, (side * 0.12, 0.02), heading if side > 0 else np.pi - heading, 0.5, bend=0.7, depth=1
        )
        for line in level
    ]
    picture += 0.09 * strokes(size, vessels, 0.025) * soft(np.minimum(lung, -heart), 0.15)
    picture += np.maximum(0.28 * soft(heart, 0.07), 0.24 * soft(mediastinum, 0.1))
    vertebrae = 0.75 + 0.25 * np.cos(y_HW * rng.uniform(26, 32))
    picture += 0.1 * soft(0.075 - away, 0.04) * vertebrae
    picture -= 0.1 * soft(0.035 - np.abs(x_HW - 0.01), 0.03) * soft(-0.18 - y_HW, 0.3)  # the windpipe
    picture += _ribs(rng, away, y_HW, lung + 0.07, torso)

    shape_HW, opacity_HW, labels = _chest_lesions(rng, kind, x_HW, y_HW, lungs, np.maximum(heart, mediastinum))
    if healthy:
        labels = np.zeros_like(labels)
    else:
        picture = over(picture, opacity_HW, shape_HW)
    return Study(image=_exposed(rng, picture), labels=labels, healthy=healthy)


def _posed(rng: Generator, size: int) -> tuple[Values, Values]:
    x_HW, y_HW = canvas(size)
    x_HW, y_HW = turned(x_HW, y_HW, (rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06)), rng.normal(0, 0.03))
    zoom = np.float32(rng.uniform(0.94, 1.1))
    return x_HW * zoom, y_HW * zoom


def _exposed(rng: Generator, picture: Values) -> NDArray[np.uint8]:
    """Vary exposure and contrast, which no finding depends on, add grain, and give bytes."""
    picture = rng.uniform(-0.06, 0.06) + rng.uniform(0.8, 1.1) * bent(picture, rng.uniform(-0.5, 0.5))
    return to_bytes(picture + 0.018 * rng.standard_normal(picture.shape, dtype=np.float32))


def _lung(rng: Generator, x_HW: Values, y_HW: Values, side: int, dome: float, stature: float) -> Values:
    """Return the depth in one lung: an egg, cut by the midline and the dome of the diaphragm."""
    width, height = rng.uniform(0.33, 0.38) * stature, rng.uniform(0.72, 0.82)
    egg = ellipse(x_HW, y_HW, (side * 0.44, 0.02), (width, height), side * -0.12)
    floor = dome + 1.1 * (side * x_HW - 0.36) ** 2 - y_HW
    return np.minimum(np.minimum(egg, floor), side * x_HW - 0.1)


def _ribs(rng: Generator, away: Values, y_HW: Values, cage: Values, torso: Values) -> Values:
    """Return the shadows of ribs (falling sideways behind, towards the middle in front) and collar bones."""
    pitch = rng.uniform(0.17, 0.21)
    behind = (y_HW + 0.9 * (away - 0.3) ** 2 - 0.15 * away) / pitch + rng.uniform()
    before = (y_HW + 0.9 * away - 0.35 * away**2) / (pitch * 1.2) + rng.uniform()
    shadow = 0.1 * _bands(behind, 0.42) * soft(away - 0.08, 0.1) + 0.04 * _bands(before, 0.36) * soft(away - 0.25, 0.2)
    collar = np.abs(y_HW + 0.7 + 0.1 * (away - 0.1) - 0.35 * (away - 0.45) ** 2)
    return shadow * soft(cage, 0.08) + 0.13 * soft(0.03 - collar, 0.03) * soft(away - 0.09, 0.06) * soft(torso, 0.1)


def _bands(phase: Values, share: float) -> Values:
    """Return stripes of period 1 that cover `share` of it."""
    return soft(share / 2 - np.abs(phase - np.rint(phase)), 0.16)


def _chest_lesions(
    rng: Generator, kind: int, x_HW: Values, y_HW: Values, lungs: list[Values], middle: Values
) -> tuple[Values, Values, NDArray[np.uint8]]:
    """Return coverage, brightness and labels of lesions of one kind."""
    size = len(x_HW)
    if kind == EFFUSION:
        return _effusion(rng, x_HW, y_HW, lungs)
    free = [np.minimum(lung, -middle) for lung in lungs]
    labels = np.zeros((size, size), np.uint8)
    coverage = np.zeros((size, size), np.float32)
    if kind == NODULE:
        radii = [radius_of(log_uniform(rng, 0.006, 0.016)) for _ in range(rng.choice((1, 2, 3), p=(0.5, 0.3, 0.2)))]
        for centre, radius in spots(rng, x_HW, y_HW, np.maximum(*free), radii, gap=0.06):
            depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.05, stretch=rng.uniform(1, 1.25))
            coverage = np.maximum(coverage, soft(depth, 0.045))
            labels[depth > 0] = 1 + NODULE
        return coverage, _opacity(rng, size, 0.03), labels
    lung = free[rng.integers(2)]
    radius = radius_of(log_uniform(rng, 0.03, 0.09))
    ((centre, radius),) = spots(rng, x_HW, y_HW, lung, [radius], gap=0, inside=0.62)
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.2, stretch=rng.uniform(1, 1.6), lobes=(2, 9))
    depth = np.minimum(depth + 0.03 * fractal_noise(rng, (size, size), 12, 2), lung + 0.02)
    mask_HW = largest_piece(depth > 0)
    near = ndimage.binary_dilation(mask_HW, iterations=max(2, size // 32))
    bronchi = strokes(
        size, [line for level in branches(rng, centre, rng.uniform(0, 6), radius, bend=0.6, depth=2) for line in level],
        0.022,
    )  # fmt: skip
    labels[mask_HW] = 1 + CONSOLIDATION
    texture = _opacity(rng, size, 0.09) - 0.3 * bronchi
    return soft(depth, 0.09) * near * 0.9, texture, labels


def _effusion(
    rng: Generator, x_HW: Values, y_HW: Values, lungs: list[Values]
) -> tuple[Values, Values, NDArray[np.uint8]]:
    """Fill the base of one chest half, or both, with fluid whose surface climbs towards the side wall."""
    labels = np.zeros(x_HW.shape, np.uint8)
    coverage = np.zeros(x_HW.shape, np.float32)
    for side in ((-1,), (1,), (-1, 1))[rng.choice(3, p=(0.4, 0.4, 0.2))]:
        lung = lungs[(side + 1) // 2]
        floor = y_HW[lung > 0].max()
        level = floor - rng.uniform(0.3, 0.62)
        surface = level - 0.3 * np.exp(9 * (side * x_HW - 0.8)) - 0.08 * np.exp(-9 * (side * x_HW - 0.1))
        depth = np.minimum(y_HW - surface, lung + 0.03)
        mask_HW = largest_piece(depth > 0)
        labels[mask_HW] = 1 + EFFUSION
        coverage = np.maximum(coverage, soft(depth, 0.07) * ndimage.binary_dilation(mask_HW, iterations=4))
    return coverage, _opacity(rng, len(x_HW), 0.015), labels


def _opacity(rng: Generator, size: int, texture: float) -> Values:
    return np.float32(rng.uniform(0.68, 0.8)) + texture * fractal_noise(rng, (size, size), 14, 3)


def draw_breast(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw an ultrasound of the breast: skin at the top, fat, gland, muscle, in log-compressed speckle."""
    x_HW, y_HW = canvas(size)
    wave = [0.05 * smooth_noise(rng, (size, size), (1, 3)) for _ in range(3)]
    skin = -0.9 + rng.uniform(-0.03, 0.03)
    gland = rng.uniform(-0.66, -0.35) + wave[0] + rng.uniform(-0.12, 0.12) * x_HW
    muscle = rng.uniform(0.42, 0.68) + wave[1] + rng.uniform(-0.1, 0.1) * x_HW

    echo = np.full((size, size), 0.3, np.float32)  # fat
    lobules = fractal_noise(rng, (size, size), 5, 2)
    echo += 0.06 * lobules + 0.2 * soft(0.12 - np.abs(lobules), 0.2)
    tissue = 0.5 + 0.1 * fractal_noise(rng, (size, size), 6, 3)
    tissue += 0.08 * smooth_noise(rng, (size, size), (14, 4))
    echo = over(echo, tissue, soft(y_HW - gland, 0.08))
    fibres = 0.36 + 0.12 * smooth_noise(rng, (size, size), (28, 4))
    echo = over(echo, fibres, soft(y_HW - muscle, 0.05))
    echo += 0.3 * soft(0.018 - np.abs(y_HW - muscle), 0.03)
    echo = over(echo, 0.75, soft(skin - y_HW, 0.03))
    coopers = [wander(rng, (rng.uniform(-1, 1), -0.8), np.pi / 2 + rng.normal(0, 0.5), 1.0, bend=1.2) for _ in range(4)]
    echo += 0.12 * strokes(size, coopers, 0.03)

    room = np.minimum(np.minimum(y_HW - gland + 0.12, muscle - y_HW + 0.05), 0.92 - np.abs(x_HW))
    room = np.minimum(room, 0.75 - y_HW)
    count = rng.choice((1, 2, 3), p=(0.55, 0.3, 0.15)) if kind == CYST else rng.choice((1, 2), p=(0.7, 0.3))
    most = (0.07, 0.03, 0.02)[count - 1]
    placed = spots(rng, x_HW, y_HW, room, [radius_of(log_uniform(rng, 0.009, most)) for _ in range(count)], 0.1, 0.75)
    painted, labels = echo, np.zeros((size, size), np.uint8)
    for centre, radius in placed:
        draw = _cyst if kind == CYST else _mass
        painted, mask_HW = draw(rng, x_HW, y_HW, centre, radius, painted)
        labels[mask_HW] = 1 + kind
    if healthy:
        painted, labels = echo, np.zeros_like(labels)
    return Study(image=_scanned(rng, painted, y_HW), labels=labels, healthy=healthy)


def _cyst(
    rng: Generator, x_HW: Values, y_HW: Values, centre: Point, radius: float, echo: Values
) -> tuple[Values, NDArray[np.bool_]]:
    """A black oval with a bright back wall and a brighter band behind it."""
    wide = rng.uniform(1.0, 1.5) ** 0.5
    depth = ellipse(x_HW, y_HW, centre, (radius * wide, radius / wide), rng.normal(0, 0.2))
    depth += 0.012 * smooth_noise(rng, x_HW.shape, 6)
    behind = soft(0.85 * radius * wide - np.abs(x_HW - centre[0]), 0.1) * soft(y_HW - centre[1], 0.05)
    echo = echo + 0.16 * behind * np.exp(-np.maximum(y_HW - centre[1], 0) * 1.6)
    echo = echo + 0.22 * soft(0.012 - np.abs(depth + 0.012), 0.02) * np.clip(
        0.3 + np.abs(y_HW - centre[1]) / radius, 0, 1
    )
    return over(echo, 0.0, soft(depth, 0.03)), largest_piece(depth > 0)


def _mass(
    rng: Generator, x_HW: Values, y_HW: Values, centre: Point, radius: float, echo: Values
) -> tuple[Values, NDArray[np.bool_]]:
    """A dark grey, coarsely textured, jagged mass, taller than wide, with a bright rim and a shadow behind it."""
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.12, stretch=rng.uniform(1, 1.3), lobes=(2, 12))
    behind = soft(0.75 * radius - np.abs(x_HW - centre[0]), 0.15) * soft(y_HW - centre[1] - 0.5 * radius, 0.1)
    echo = echo * (1 - rng.uniform(0.45, 0.6) * behind)
    echo = echo + 0.18 * soft(0.05 - np.abs(depth + 0.05), 0.06) * soft(centre[1] + 0.6 * radius - y_HW, 0.2)
    inside = 0.2 + 0.09 * fractal_noise(rng, x_HW.shape, 16, 2)
    return over(echo, inside, soft(depth, 0.04)), largest_piece(depth > 0)


def _scanned(rng: Generator, echo: Values, y_HW: Values) -> NDArray[np.uint8]:
    """Turn echo strength into a picture: speckle, loss with depth, gain."""
    size = len(echo)
    loss = rng.uniform(-0.05, 0.25) * (y_HW + 1) / 2
    grain = speckle(rng, size, (size / 250, size / 130))
    picture = np.clip(echo - loss * (echo > 0.03), 0.015, 1.2) * (0.55 + 0.45 * grain)
    return to_bytes(rng.uniform(0.75, 1.2) * bent(picture, rng.uniform(-0.1, 0.4)))


GREY_FAMILIES = (
    Family(
        name="chest-x-ray",
        modality="X-Ray",
        department="Pulmonary Medicine",
        clinical_task="Disease Diagnosis",
        body_part=term("chest"),
        lesions=(term("lung nodule"), term("consolidation"), term("pleural effusion")),
        draw=draw_chest,
    ),
    Family(
        name="breast-ultrasound",
        modality="Ultrasound",
        department="Obstetrics and Gynecology",
        clinical_task="Disease Diagnosis",
        body_part=term("breast"),
        lesions=(term("breast cyst"), term("solid breast mass")),
        draw=draw_breast,
    ),
)
