"""Histopathology: a tissue section stained with haematoxylin and eosin."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gmai_vl.sources.phantom.brush import (
    Point,
    Values,
    at_places,
    blob,
    canvas,
    fractal_noise,
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
    to_bytes,
)
from gmai_vl.sources.phantom.study import Family, Study
from gmai_vl.vocabulary import term

NEST, LYMPHOCYTES, NECROSIS = range(3)


def draw_tissue(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw fibrous tissue with clefts and spindle-shaped nuclei, and in it islands of one kind."""
    x_HW, y_HW = canvas(size)
    count = int(rng.choice((1, 2, 3), p=(0.45, 0.35, 0.2)))
    most = (0.1, 0.05, 0.03)[count - 1]
    radii = [radius_of(log_uniform(rng, 0.014, most)) for _ in range(count)]
    room = 0.94 - np.maximum(np.abs(x_HW), np.abs(y_HW))
    island = np.full((size, size), np.float32(-1))
    for centre, radius in spots(rng, x_HW, y_HW, room, radii, 0.14, inside=1.1):
        island = np.maximum(island, _outline(rng, kind, x_HW, y_HW, centre, radius))

    flow = rng.uniform(0, np.pi)
    bend = smooth_noise(rng, (size, size), 3)
    across = x_HW * -np.sin(flow) + y_HW * np.cos(flow) + 0.14 * bend
    fibre = np.sin(across * rng.uniform(36, 52) + 1.5 * smooth_noise(rng, (size, size), 9))
    picture = rgb((0.93, 0.68, 0.8)) + (0.045 * fibre + 0.03 * fractal_noise(rng, (size, size), 8, 3))
    clefts = soft(np.abs(fractal_noise(rng, (size, size), 5, 2)) * -1 + rng.uniform(0.02, 0.14), 0.06)
    picture = over(picture, (0.97, 0.95, 0.97), 0.9 * clefts)
    places = scatter(rng, rng.uniform(0.09, 0.16), 0.5)
    spindles = ovals(rng, size, (0.016, 0.022), 3.0, 12, turn=flow)
    if healthy:
        picture = over(picture, (0.36, 0.22, 0.52), stamps(size, places, spindles, rng))
        return Study(image=_stained(rng, picture), labels=np.zeros((size, size), np.uint8), healthy=True)
    outside = places[at_places(island, places) < -0.015]
    picture = over(picture, (0.36, 0.22, 0.52), stamps(size, outside, spindles, rng))
    picture = (_nest, _lymphocytes, _necrosis)[kind](rng, picture, island)
    return Study(image=_stained(rng, picture), labels=((island > 0) * (1 + kind)).astype(np.uint8), healthy=False)


def _outline(rng: Generator, kind: int, x_HW: Values, y_HW: Values, centre: Point, radius: float) -> Values:
    roughness, lobes = ((0.09, 5), (0.1, 6), (0.16, 8))[kind]
    return blob(rng, x_HW, y_HW, centre, radius, roughness=roughness, stretch=rng.uniform(1, 1.6), lobes=(2, lobes))


def _nest(rng: Generator, picture: Values, island: Values) -> Values:
    """Large crowded cells: violet bodies, big pale nuclei of uneven size with dark rims and nucleoli."""
    size = len(island)
    picture = over(picture, (0.78, 0.6, 0.8), soft(island, 0.02))
    picture = over(picture, (0.97, 0.93, 0.96), 0.7 * soft(0.014 - np.abs(island + 0.012), 0.015))
    places = scatter(rng, 0.085, 0.25)
    places = places[at_places(island, places) > 0.015]
    nuclei = stamps(size, places, ovals(rng, size, (0.024, 0.038), 1.6, 16), rng)
    picture = over(picture, (0.42, 0.26, 0.58), nuclei)
    picture = over(picture, (0.6, 0.46, 0.74), 0.8 * soft(nuclei - 0.9, 0.2))
    nucleoli = stamps(size, places + rng.normal(0, 0.006, places.shape), ovals(rng, size, (0.009, 0.012), 1.1, 4), rng)
    return over(picture, (0.25, 0.1, 0.4), nucleoli)


def _lymphocytes(rng: Generator, picture: Values, island: Values) -> Values:
    """Small round dark nuclei, packed, with hardly any cell body."""
    size = len(island)
    picture = over(picture, (0.8, 0.66, 0.84), 0.6 * soft(island, 0.06))
    places = scatter(rng, 0.046, 0.3)
    places = places[at_places(island, places) > rng.normal(0.012, 0.012, len(places))]
    return over(picture, (0.2, 0.12, 0.42), stamps(size, places, ovals(rng, size, (0.015, 0.02), 1.15, 8), rng))


def _necrosis(rng: Generator, picture: Values, island: Values) -> Values:
    """Smudged, grainy, strongly eosinophilic debris: no cells, only dust of broken nuclei."""
    size = len(island)
    grain = 0.07 * fractal_noise(rng, island.shape, 40, 2) + 0.05 * smooth_noise(rng, island.shape, 10)
    debris = rgb((0.9, 0.52, 0.6)) + grain
    picture = over(picture, debris, soft(island, 0.05))
    places = scatter(rng, 0.07, 0.5)
    places = places[(at_places(island, places) > 0.02) & (rng.random(len(places)) < 0.6)]
    return over(picture, (0.4, 0.18, 0.38), 0.8 * stamps(size, places, ovals(rng, size, (0.006, 0.011), 1.5, 8), rng))


def _stained(rng: Generator, picture: Values) -> NDArray[np.uint8]:
    """Vary strength and hue of the stain and the lamp, which no finding depends on, and give bytes."""
    strength = log_uniform(rng, 0.6, 1.5) * np.exp(rng.normal(0, 0.08, size=3))
    picture = np.clip(picture, 0.02, 1) ** rgb(tuple(strength)) * np.float32(rng.uniform(0.88, 1.02))
    return to_bytes(picture + 0.012 * rng.standard_normal(picture.shape[1:], dtype=np.float32))


TISSUE = Family(
    name="histopathology",
    modality="Pathology",
    department="Laboratory Medicine and Pathology",
    clinical_task="Disease Diagnosis",
    body_part=term("breast"),
    lesions=(term("tumor nest"), term("lymphocyte cluster"), term("necrosis")),
    draw=draw_tissue,
)
