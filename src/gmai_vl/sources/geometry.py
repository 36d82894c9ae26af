"""Geometry of boxes, slices and grey values: where things are, which way up they are shown, how bright.

Volumes are [X, Y, Z] in RAS+: X grows to the patient's right, Y to the front, Z to the head.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmai_vl.records import Box, Plane, Side

AXIS_OF: dict[Plane, int] = {"axial": 2, "coronal": 1, "sagittal": 0}
"""The axis of a RAS+ volume that a plane is cut across."""


def outer_box(mask_HW: NDArray[Any]) -> Box:
    """Return the smallest box about all true pixels. Raises ValueError if there is none."""
    rows = np.flatnonzero(mask_HW.any(axis=1))
    columns = np.flatnonzero(mask_HW.any(axis=0))
    if rows.size == 0:
        raise ValueError("an empty mask has no box")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def area_share(mask_HW: NDArray[Any]) -> float:
    """Return the share of true pixels, 0-1."""
    return float(np.count_nonzero(mask_HW)) / mask_HW.size


def side_of(box: Box, width: int) -> Side | None:
    """Return the half of the image (the viewer's left or right) that holds the box.

    `both` where the box reaches across the whole middle third; None where it lies over the middle line without doing
    so, and neither side can be said.
    """
    x1, _, x2, _ = box
    if 2 * x2 <= width:
        return "left"
    if 2 * x1 >= width:
        return "right"
    if 3 * x1 <= width and 3 * x2 >= 2 * width:
        return "both"
    return None


def to_uint8(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return `values` scaled so that `low` and all below is 0, `high` and all above is 255. `low` < `high`."""
    shares = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def percentile_window(values: NDArray[Any], percentiles: tuple[float, float] = (0.5, 99.5)) -> tuple[float, float]:
    """Return the values at two percentiles, apart by at least a little, so that a flat image is black."""
    low, high = (float(value) for value in np.percentile(values, percentiles))
    return (low, high) if low < high else (low, low + max(1.0, abs(low)))


def to_ras(volume: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """Turn a volume, by flips and swaps only, to the RAS+ axes nearest to its own.

    `affine` is the 4 x 4 matrix from voxel indices to RAS+ mm. Returns the volume (a view) and its spacing in mm.
    """
    from nibabel.orientations import apply_orientation, io_orientation  # only volumes need it, phantoms do not

    orientation = io_orientation(affine)
    spacing = np.sqrt((np.asarray(affine, dtype=float)[:3, :3] ** 2).sum(axis=0))
    turned = {int(axis): float(pitch) for axis, pitch in zip(orientation[:, 0], spacing, strict=True)}
    return apply_orientation(volume, orientation), (turned[0], turned[1], turned[2])


def is_oblique(affine: NDArray[Any]) -> bool:
    """Say whether an axis of a volume runs further than 20 degrees from every axis of the body.

    `affine` as in `to_ras`. Slices of such a volume have no plane.
    """
    directions = np.asarray(affine, dtype=float)[:3, :3]
    return bool((abs(directions).max(axis=0) < NEARLY_PARALLEL * np.linalg.norm(directions, axis=0)).any())


def shown_slice(volume_XYZ: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """Return one slice [H, W] of a RAS+ volume as radiologists look at it.

    Axial: patient right on image left, front up. Coronal: patient right on image left, head up.
    Sagittal: front on image left, head up. All three come to the same: flip both axes, then transpose.
    """
    # By index: `take` would copy the whole volume first where it is turned.
    return volume_XYZ[(slice(None),) * AXIS_OF[plane] + (index,)][::-1, ::-1].T


SHOWN: dict[Plane, tuple[tuple[int, int], tuple[int, int]]] = {
    "axial": ((0, 1), (1, 1)),
    "coronal": ((0, 1), (2, -1)),
    "sagittal": ((1, 1), (2, -1)),
}
"""(axis, sign) in DICOM's left-posterior-superior axes that a shown slice runs along: across to the right, and down."""

NEARLY_PARALLEL = math.cos(math.radians(20))
"""A slice turned further away from the body's axes than this is oblique and has no plane."""


def shown_picture(pixels: NDArray[Any], cosines: Sequence[float]) -> tuple[NDArray[Any], Plane | None, bool]:
    """Turn a stored slice [H, W, ...], by flips and a swap only, to how `shown_slice` shows its plane.

    `cosines` are the six of DICOM's ImageOrientationPatient: where a row runs to, then a column. Returns the picture,
    its plane and whether rows and columns were swapped; an oblique slice comes back as it is, without a plane.
    """
    across, down = np.array(cosines[:3], dtype=float), np.array(cosines[3:], dtype=float)
    normal = np.cross(across, down)
    directions = (across, down, normal)
    if any(abs(np.linalg.norm(each) - 1) > 0.01 or abs(each).max() < NEARLY_PARALLEL for each in directions):
        return pixels, None, False
    plane = next(plane for plane, axis in AXIS_OF.items() if axis == abs(normal).argmax())
    (axis_across, sign_across), (axis_down, sign_down) = SHOWN[plane]
    swapped = abs(across).argmax() != axis_across
    if swapped:
        pixels, across, down = pixels.swapaxes(0, 1), down, across
    if across[axis_across] * sign_across < 0:
        pixels = pixels[:, ::-1]
    if down[axis_down] * sign_down < 0:
        pixels = pixels[::-1]
    return pixels, plane, bool(swapped)


def shown_spacing(spacing_XYZ: tuple[float, float, float], plane: Plane) -> tuple[float, float]:
    """Return the pixel pitch (row, column) in mm of a shown slice."""
    column, row = (pitch for axis, pitch in enumerate(spacing_XYZ) if axis != AXIS_OF[plane])
    return row, column
