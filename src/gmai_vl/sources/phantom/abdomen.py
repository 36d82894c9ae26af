"""Abdominal CT, a volume in Hounsfield units."""

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from gmai_vl.sources.phantom.brush import Values, fractal_noise, log_uniform, smooth_noise
from gmai_vl.sources.phantom.solid import Lesions, Space, both, ellipsoid, space
from gmai_vl.sources.phantom.study import Family, Study
from gmai_vl.vocabulary import term

LIVER_TUMOR, LIVER_CYST, KIDNEY_CYST = range(3)


def draw_abdomen(rng: Generator, kind: int, healthy: bool, size: int) -> Study:
    """Draw a CT of the upper abdomen in the portal venous phase. `size` is not used: slices are scaled later."""
    at = space(rng, (120, 88, 76), rng.uniform(2.8, 3.1))
    x, y, z, _ = at
    wide, deep = rng.uniform(138, 155), rng.uniform(96, 114)
    girth = (np.abs(x / wide) ** 2.3 + np.abs(y / deep) ** 2.3) ** (1 / 2.3)
    body = (1 - girth) * deep
    fat, back = rng.uniform(7, 22), deep / 110
    cavity = np.broadcast_to(body - fat - 9, at.shape)
    spine = ellipsoid(at, (0, -54 * back, 0), (21, 18, np.inf))
    dome = (
        rng.uniform(64, 88) - 0.005 * (np.abs(x) - 62) ** 2 - 0.006 * (y - 8) ** 2 + 4 * smooth_noise(rng, at.shape, 4)
    )

    lift = rng.uniform(-12, 8, size=2)
    kidneys = [
        ellipsoid(
            at, (side * (58 - 0.14 * (z + 30)), -36 * back, -34 + shift), rng.uniform(0.9, 1.1) * np.array((27, 25, 50))
        )
        for side, shift in ((1, lift[0] - 6), (-1, lift[1] + 4))
    ]
    bumps = 6 * smooth_noise(rng, at.shape, 5)
    liver = np.maximum(
        ellipsoid(at, (74, 10, 26), rng.uniform(0.9, 1.1) * np.array((80, 76, 80))),
        ellipsoid(at, (0, 44, 36), (rng.uniform(55, 85), 36, 36)),
    )
    liver = both(liver + bumps, cavity - 2, dome - z - 3, -(kidneys[0] + 5), -(spine + 16))
    spleen = both(
        ellipsoid(at, (-102 * wide / 155, -26, 34), rng.uniform(0.85, 1.15) * np.array((34, 46, 44))) + 0.5 * bumps,
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
        sinus = ellipsoid(at, (side * (50 - 0.14 * (z + 30)), -33 * back, -34), (13, 9, 24))
        hu = np.where(kidney > 0, enhanced * np.where(kidney > 8, 125, 175), hu)
        hu = np.where((sinus > 0) & (kidney > 3), -20, hu)

    if kind == KIDNEY_CYST:
        kidney = np.maximum(*kidneys)
        room = both(6 - np.abs(kidney - 2), 0.15 * cavity, -(liver + 2), -(spleen + 2), 0.1 * (-20 - z), np.abs(x) - 55)
        radii, inside = [log_uniform(rng, 17, 31) for _ in range(rng.choice((1, 2), p=(0.6, 0.4)))], 0.0
    else:
        room, inside = liver, 0.7
        radii = [log_uniform(rng, 17, 38) for _ in range(rng.choice((1, 2, 3), p=(0.5, 0.3, 0.2)))]
    lesions = Lesions(rng, at, room, radii, inside)
    site = np.zeros(at.shape, bool)
    sick = hu.copy()
    for window, depth in lesions.windows(rng, 4, roughness=0.12 if kind == LIVER_TUMOR else 0.04):
        depth = both(depth, cavity[window])
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
    stomach = both(ellipsoid(at, (-58, 44, 36), (44, 34, 42)), cavity - 3)
    hu = np.where(stomach > 0, np.where(stomach < 4, 75, np.where(y > 56, -850, 15)), hu)
    hu = np.where((cavity > 0) & (z > dome), -840, hu)
    hu = np.where(both(ellipsoid(at, (-22, 25, 122), (62, 50, 46)), cavity - 4) > 0, 120, hu)
    for side in (-1, 1):
        hu = np.where(ellipsoid(at, (side * 40, -68 * back, 0), (29, 24, np.inf)) > 0, 60, hu)
    hu = np.where(ellipsoid(at, (-12, -27 * back, 0), (11, 11, np.inf)) > 0, 185, hu)
    hu = np.where(ellipsoid(at, (16, -26 * back, 0), (13, 10, np.inf)) > 0, 130, hu)
    disc = np.cos((z + 9) * (2 * np.pi / 34)) > 0.75
    bone = np.where(disc, 95, 230 + 40 * smooth_noise(rng, at.shape, 24))
    spine = ellipsoid(at, (0, -54 * back, 0), (21, 18, np.inf))
    hu = np.where(spine > 0, np.where((spine < 3) & ~disc, 420, bone), hu)
    arch = ellipsoid(at, (0, -84 * back, 0), (19, 14, np.inf))
    hu = np.where(arch > 0, 330, hu)
    return np.where(ellipsoid(at, (0, -80 * back, 0), (9, 8, np.inf)) > 0, 30, hu).astype(np.float32)


ABDOMEN = Family(
    name="abdomen-ct",
    modality="CT",
    department="General Surgery",
    clinical_task="Disease Diagnosis",
    body_part=term("abdomen"),
    lesions=(term("liver tumor"), term("liver cyst"), term("kidney cyst")),
    anatomy=(term("liver"), term("spleen"), term("left kidney"), term("right kidney")),
    draw=draw_abdomen,
    volume=True,
)
