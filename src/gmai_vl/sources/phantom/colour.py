"""Colour pictures: fundus photograph, dermoscopy and colonoscopy."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from gmai_vl.sources.phantom.brush import (
    Point,
    Values,
    at_places,
    bent,
    blob,
    branches,
    canvas,
    ellipse,
    fractal_noise,
    largest_piece,
    log_uniform,
    ovals,
    over,
    radius_of,
    rgb,
    scatter,
    smooth_noise,
    soft,
    spots,
    stamps,
    strokes,
    to_bytes,
    turned,
    wander,
)
from gmai_vl.sources.phantom.study import Family, Study
from gmai_vl.vocabulary import term

Mask = NDArray[np.bool_]
Painter = Callable[[Generator, Values, Values, Values, Point, float], tuple[Values, Mask]]
"""(rng, x, y, picture, centre, radius) -> the picture with one lesion more, and its mask."""


def _painted(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, painter: Painter, placed: list[tuple[Point, float]],
    label: int,
) -> tuple[Values, NDArray[np.uint8]]:  # fmt: skip
    labels = np.zeros(x_HW.shape, np.uint8)
    for centre, radius in placed:
        picture, mask_HW = painter(rng, x_HW, y_HW, picture, centre, radius)
        labels[mask_HW] = label
    return picture, labels


def _lit(rng: Generator, picture: Values, light: tuple[float, float], tint: float, grain: float) -> NDArray[np.uint8]:
    """Vary light, contrast and tint, which no finding depends on, add grain, and give bytes."""
    gains = np.exp(rng.normal(0, tint, size=3)) * rng.uniform(*light)
    picture = bent(picture, rng.uniform(-0.25, 0.25)) * rgb(tuple(gains))
    return to_bytes(picture + grain * rng.standard_normal(picture.shape[1:], dtype=np.float32))


def _sizes(rng: Generator, count: int, low: float, high: float) -> list[float]:
    """Return radii of `count` lesions, each of a share of the image between `low` and `high`, log-uniformly."""
    return [radius_of(log_uniform(rng, low, high)) for _ in range(count)]


def draw_fundus(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw a fundus photograph of a right or left eye."""
    x_HW, y_HW = canvas(size)
    nasal = rng.choice((-1, 1))
    disc: Point = (nasal * rng.uniform(0.42, 0.56), rng.uniform(-0.1, 0.1))
    fovea: Point = (disc[0] - nasal * rng.uniform(0.62, 0.74), disc[1] + rng.uniform(0, 0.1))
    rim = rng.uniform(0.93, 0.99) - np.hypot(x_HW, y_HW)

    choroid = 1 + 0.1 * fractal_noise(rng, (size, size), 5, 4)
    retina = rgb((0.8, rng.uniform(0.34, 0.46), rng.uniform(0.14, 0.24))) * choroid
    retina[1] += 0.03 * fractal_noise(rng, (size, size), 14, 2)
    retina = over(retina, (0.42, 0.15, 0.08), 0.65 * soft(ellipse(x_HW, y_HW, fovea, (0.16, 0.15)), 0.3))
    disc_HW = ellipse(x_HW, y_HW, disc, (rng.uniform(0.13, 0.16), rng.uniform(0.15, 0.18)))
    retina = over(retina, (1.0, 0.8, 0.5), soft(disc_HW, 0.05))
    retina = over(retina, (1.0, 0.95, 0.78), 0.8 * soft(disc_HW - rng.uniform(0.05, 0.09), 0.05))
    retina = _retinal_vessels(rng, retina, disc, nasal)

    room = np.minimum(np.minimum(rim - 0.06, -disc_HW - 0.06), -ellipse(x_HW, y_HW, fovea, (0.14, 0.14)))
    count = int(rng.integers(1, 5))
    placed = spots(rng, x_HW, y_HW, room, _sizes(rng, count, 0.006, 0.03 if count < 3 else 0.015), 0.08, inside=1.0)
    painter = (_retinal_haemorrhage, _hard_exudate, _cotton_wool_spot)[kind]
    sick, labels = _painted(rng, x_HW, y_HW, retina, painter, placed, 1 + kind)
    if not healthy:
        retina = sick
    light = 1 - rng.uniform(0.15, 0.45) * (x_HW**2 + y_HW**2) + rng.uniform(-0.15, 0.15) * x_HW
    retina = retina * (light * soft(rim, 0.03))
    return Study(image=_lit(rng, retina, (0.8, 1.1), 0.04, 0.012), labels=labels * (not healthy), healthy=healthy)


def _retinal_vessels(rng: Generator, retina: Values, disc: Point, nasal: int) -> Values:
    """Two arcades around the fovea and two shorter trees towards the nose, each an artery and a vein."""
    levels: list[list[Values]] = [[], [], []]
    for up in (-1, 1):
        for _artery_and_vein in range(2):
            outwards = np.pi if nasal > 0 else 0.0
            turn = -up * nasal
            heading = outwards + turn * rng.uniform(1.0, 1.35)
            arcade = branches(rng, disc, heading, 1.5, bend=0.5, depth=2, curve=-turn * rng.uniform(1.0, 1.4))
            inner = branches(rng, disc, outwards + np.pi - turn * rng.uniform(0.3, 1.0), 0.7, bend=0.6, depth=1)
            for level, lines in enumerate(arcade):
                levels[level] += lines
            levels[1] += inner[0]
            levels[2] += inner[1]
    for lines, width, strength in zip(levels, (0.034, 0.02, 0.013), (0.8, 0.65, 0.5), strict=True):
        retina = over(retina, retina * rgb((0.62, 0.28, 0.35)), strength * strokes(retina.shape[1], lines, width))
    return retina


def _retinal_haemorrhage(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.1, stretch=rng.uniform(1, 1.6), lobes=(2, 8))
    return over(picture, (0.34, 0.03, 0.03), 0.92 * soft(depth, 0.03)), depth > 0


def _hard_exudate(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    """Waxy yellow lumps with sharp borders, crowded into one patch."""
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.1, stretch=rng.uniform(1, 1.4))
    lumps = smooth_noise(rng, x_HW.shape, 34)
    mask_HW = ndimage.binary_fill_holes(largest_piece(depth + 0.16 * radius * lumps > 0))
    cover = (0.45 + 0.55 * soft(0.3 + lumps, 0.9)) * ndimage.gaussian_filter(mask_HW.astype(np.float32), 0.5)
    return over(picture, (1.0, 0.93, 0.3), cover), mask_HW


def _cotton_wool_spot(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    """A pale grey cloud without a sharp border."""
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.1, stretch=rng.uniform(1, 1.4))
    depth = depth + 0.02 * smooth_noise(rng, x_HW.shape, 16)
    cover = soft(depth, 1.1 * radius)
    return over(picture, (0.95, 0.9, 0.86), 0.95 * cover), largest_piece(depth > 0)


def draw_skin(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw one skin lesion under a dermatoscope. There is always one: `healthy` must be false."""
    assert not healthy
    x_HW, y_HW = canvas(size)
    texture = 1 + 0.04 * fractal_noise(rng, (size, size), 3, 3) + 0.025 * smooth_noise(rng, (size, size), 60)
    skin = rgb((0.88, rng.uniform(0.62, 0.74), rng.uniform(0.5, 0.64))) * texture
    skin[1] -= 0.02 * smooth_noise(rng, (size, size), 9)
    radius = radius_of(log_uniform(rng, 0.03, 0.13))
    reach = 0.86 - 1.2 * radius
    centre: Point = (rng.uniform(-reach, reach), rng.uniform(-reach, reach))
    painter = (_naevus, _melanoma, _keratosis)[kind]
    skin, labels = _painted(rng, x_HW, y_HW, skin, painter, [(centre, radius)], 1 + kind)
    hairs = [
        wander(rng, (rng.uniform(-1, 1), rng.uniform(-1, 1)), rng.uniform(0, 6.3), rng.uniform(0.5, 1.4), bend=0.7)
        for _ in range(int(rng.choice((0, 3, 8, 15))))
    ]
    skin = over(skin, (0.2, 0.13, 0.1), 0.8 * strokes(size, hairs, rng.uniform(0.009, 0.016)))
    skin = skin * (1 - rng.uniform(0, 0.35) * (x_HW**2 + y_HW**2) / 2)
    return Study(image=_lit(rng, skin, (0.72, 1.08), 0.035, 0.012), labels=labels, healthy=False)


def _naevus(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    """One brown, an even border that fades, a fine regular network."""
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.04, stretch=rng.uniform(1, 1.3), lobes=(2, 4))
    pitch = rng.uniform(0.045, 0.065)
    u, v = turned(x_HW, y_HW, centre, rng.uniform(0, np.pi))
    warps = 0.35 * smooth_noise(rng, x_HW.shape, 10), 0.35 * smooth_noise(rng, x_HW.shape, 10)
    net = np.maximum(*(np.abs(np.sin((axis / pitch + warp) * np.pi)) for axis, warp in zip((u, v), warps, strict=True)))
    brown = rgb((0.56, 0.34, 0.23)) * rng.uniform(0.65, 1.15)
    colour = brown * (1.1 - 0.28 * soft(net - 0.86, 0.2))
    return over(picture, colour, soft(depth, 0.1)), depth > 0


def _melanoma(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    """Lopsided, a notched border, several colours: browns, black, blue-grey, red, white."""
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.15, stretch=rng.uniform(1.1, 1.6), lobes=(2, 7))
    depth = depth + 0.09 * radius * smooth_noise(rng, x_HW.shape, 22)
    colour = rgb((0.45, 0.26, 0.17))
    cells = max(3, int(1.6 / radius))
    patches = [(0.1, 0.07, 0.08), (0.4, 0.45, 0.58), (0.72, 0.28, 0.24), (0.2, 0.11, 0.08), (0.92, 0.84, 0.82)]
    for patch, level in zip(patches, (0.0, 0.7, 0.9, 0.5, 1.4), strict=True):
        colour = over(colour, patch, soft(smooth_noise(rng, x_HW.shape, cells) - level, 0.5))
    colour = colour * (rng.uniform(0.8, 1.3) * (1 + 0.16 * fractal_noise(rng, x_HW.shape, 20, 2)))
    mask_HW = largest_piece(depth > 0)
    edge = soft(depth, 0.04) * ndimage.binary_dilation(mask_HW, iterations=2)
    return over(picture, colour, edge), mask_HW


def _keratosis(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    """Stuck on: a sharp border, waxy tan ridges, white cysts and dark plugs."""
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.08, stretch=rng.uniform(1, 1.5), lobes=(2, 7))
    ridges = np.abs(smooth_noise(rng, x_HW.shape, 26))
    tan = rgb((0.68, 0.52, 0.33)) * rng.uniform(0.65, 1.12)
    colour = tan * (1.1 - 0.35 * soft(0.35 - ridges, 0.4))
    size = len(x_HW)
    places = scatter(rng, 0.1, 0.45)
    places = places[at_places(depth, places) > 0.02]
    pale = rng.random(len(places)) < 0.45
    for chosen, shade in ((pale, (0.98, 0.95, 0.85)), (~pale, (0.2, 0.12, 0.08))):
        keep = chosen & (rng.random(len(places)) < 0.8)
        dots = stamps(size, places[keep], ovals(rng, size, (0.018, 0.032), 1.3, 6), rng)
        colour = over(colour, shade, 0.9 * dots)
    rim = soft(0.02 - np.abs(depth), 0.02)
    return over(over(picture, picture * 0.75, 0.6 * rim), colour, soft(depth, 0.02)), depth > 0


def draw_colon(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw a view along the colon: dark lumen, folds around it, wet highlights."""
    x_HW, y_HW = canvas(size)
    lumen: Point = (rng.uniform(-0.45, 0.45), rng.uniform(-0.45, 0.45))
    u, v = turned(x_HW, y_HW, lumen, rng.uniform(0, 6.3))
    away = np.hypot(u, v)
    warp = smooth_noise(rng, (size, size), 4)
    three = np.cos(3 * np.arctan2(v, u))
    reach = away * (1 + 0.13 * three) + 0.05 * warp
    phase = rng.uniform(2.2, 3.2) * np.log(np.maximum(reach, 0) + 0.1) + rng.uniform()
    step = phase - np.floor(phase)
    fold = np.where(step < 0.85, step / 0.85, (1 - step) / 0.15)
    lit = np.clip(0.12 + 0.85 * soft(reach - 0.3, 0.75), 0, 1) * (0.72 + 0.32 * fold)
    texture = 1 + 0.05 * fractal_noise(rng, (size, size), 6, 3)
    mucosa = rgb((0.93, rng.uniform(0.5, 0.6), rng.uniform(0.4, 0.5))) * texture
    veins = [
        line
        for _ in range(4)
        for level in branches(
            rng, (rng.uniform(-1, 1), rng.uniform(-1, 1)), rng.uniform(0, 6.3), 0.6, bend=1.2, depth=1
        )
        for line in level
    ]
    mucosa = over(mucosa, (0.72, 0.2, 0.17), 0.35 * strokes(size, veins, 0.015))

    frame = np.minimum(1.0 - np.maximum(np.abs(x_HW), np.abs(y_HW)), 1.45 - np.abs(x_HW) - np.abs(y_HW))
    room = np.minimum(np.minimum(frame - 0.02, reach - 0.24), 0.9 - np.abs(y_HW))
    count = int(rng.choice((1, 2, 3), p=(0.55, 0.3, 0.15)))
    most = (0.09, 0.035, 0.02)[count - 1]
    placed = spots(rng, x_HW, y_HW, room, _sizes(rng, count, 0.009, most), 0.1, inside=0.9)
    painter = (_polyp, _ulcer, _bleeding)[kind]
    sick, labels = _painted(rng, x_HW, y_HW, mucosa, painter, placed, 1 + kind)
    labels[frame < 0] = 0
    if not healthy:
        mucosa = sick
        lit = np.where(labels > 0, 0.6 * lit + 0.32, lit)
    picture = mucosa * lit
    wet = soft(smooth_noise(rng, (size, size), 24) - 2.3, 0.5) * soft(reach - 0.35, 0.2)
    picture = over(picture, (1.0, 0.97, 0.93), 0.9 * wet)
    picture = picture * soft(frame, 0.02)
    return Study(image=_lit(rng, picture, (0.8, 1.15), 0.035, 0.012), labels=labels * (not healthy), healthy=healthy)


def _polyp(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    """A smooth dome with a lit and a shaded flank, a shadow at its foot and a highlight."""
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.06, stretch=rng.uniform(1, 1.4), lobes=(2, 5))
    height = np.sqrt(np.clip(1 - (1 - np.clip(depth / radius, 0, 1)) ** 2, 0, 1))
    angle = rng.uniform(0, 6.3)
    towards = ((x_HW - centre[0]) * np.cos(angle) + (y_HW - centre[1]) * np.sin(angle)) / radius
    pits = smooth_noise(rng, x_HW.shape, 44)
    shade = 0.5 + 0.55 * height + 0.28 * towards * (1 - 0.4 * height) + 0.05 * pits
    colour = rgb((0.93, 0.4, 0.36)) * shade
    shadow = soft(depth + 0.16 * radius, 0.25 * radius) * np.clip(0.6 - towards * 0.5, 0, 1)
    picture = over(picture, picture * 0.35, shadow)
    picture = over(picture, colour, soft(depth, 0.025))
    spark = (centre[0] + 0.35 * radius * np.cos(angle), centre[1] + 0.35 * radius * np.sin(angle))
    glint = ellipse(x_HW, y_HW, spark, (0.16 * radius, 0.1 * radius), angle + 1.57)
    return over(picture, (1.1, 1.1, 1.05), soft(glint, 0.03)), depth > 0


def _ulcer(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    """A jagged crater coated yellowish white, in an angry red ring."""
    depth = blob(rng, x_HW, y_HW, centre, radius, roughness=0.1, stretch=rng.uniform(1, 1.6), lobes=(2, 8))
    picture = over(picture, (0.8, 0.16, 0.13), 0.85 * soft(depth + 0.22 * radius, 0.4 * radius))
    coat = 1 + 0.1 * fractal_noise(rng, x_HW.shape, 16, 2)
    colour = rgb((1.0, 0.94, 0.68)) * coat
    return over(picture, colour, soft(depth, 0.05)), depth > 0


def _bleeding(
    rng: Generator, x_HW: Values, y_HW: Values, picture: Values, centre: Point, radius: float
) -> tuple[Values, Mask]:
    """A pool of dark fresh blood that trickles away."""
    pool = blob(rng, x_HW, y_HW, centre, 0.85 * radius, roughness=0.16, stretch=rng.uniform(1, 1.5), lobes=(2, 7))
    heading = rng.uniform(0, 6.3)
    trickles = [
        wander(rng, centre, heading + rng.normal(0, 0.3), rng.uniform(1.3, 1.9) * radius, bend=0.7) for _ in range(2)
    ]
    flow = strokes(len(x_HW), trickles, 0.45 * radius)
    cover = np.maximum(soft(pool, 0.03), np.clip(1.6 * flow, 0, 1))
    mask_HW = largest_piece(cover > 0.5)
    cover = cover * ndimage.binary_dilation(mask_HW, iterations=2)
    gloss = 1 + 0.3 * smooth_noise(rng, x_HW.shape, 14)
    return over(picture, rgb((0.6, 0.03, 0.03)) * gloss, 0.95 * cover), mask_HW


COLOUR_FAMILIES = (
    Family(
        name="fundus",
        modality="Fundus Photography",
        department="Ophthalmology",
        clinical_task="Disease Diagnosis",
        body_part=term("retina"),
        lesions=(term("retinal hemorrhage"), term("hard exudate"), term("cotton wool spot")),
        draw=draw_fundus,
    ),
    Family(
        name="dermoscopy",
        modality="Dermoscopy",
        department="Dermatology",
        clinical_task="Disease Diagnosis",
        body_part=term("skin"),
        lesions=(term("melanocytic nevus"), term("melanoma"), term("seborrheic keratosis")),
        healthy_share=0.0,
        draw=draw_skin,
    ),
    Family(
        name="colonoscopy",
        modality="Endoscopy",
        department="Gastroenterology and Hepatology",
        clinical_task="Disease Diagnosis",
        body_part=term("colon"),
        lesions=(term("colon polyp"), term("ulcer"), term("bleeding")),
        draw=draw_colon,
    ),
)
