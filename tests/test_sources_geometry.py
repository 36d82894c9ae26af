"""Boxes, sides, grey values and the way up that slices are shown."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gmai_vl.sources.geometry import (
    area_share,
    outer_box,
    percentile_window,
    shown_picture,
    shown_slice,
    side_of,
    to_ras,
    to_uint8,
)

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(masks)
def test_the_box_is_the_outer_box_of_the_mask(mask_HW):
    rows, columns = np.nonzero(mask_HW)
    if rows.size == 0:
        with pytest.raises(ValueError, match="empty"):
            outer_box(mask_HW)
        return
    assert outer_box(mask_HW) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert area_share(mask_HW) == pytest.approx(rows.size / (mask_HW.shape[0] * mask_HW.shape[1]))


@given(st.integers(3, 60), st.data())
def test_a_mirrored_box_lies_on_the_other_side(width, data):
    x1 = data.draw(st.integers(0, width - 1))
    x2 = data.draw(st.integers(x1 + 1, width))
    mirrored = {"left": "right", "right": "left", "both": "both", None: None}
    assert side_of((width - x2, 0, width - x1, 1), width) == mirrored[side_of((x1, 0, x2, 1), width)]


@pytest.mark.parametrize(
    ("x1", "x2", "side"), [(0, 30, "left"), (30, 60, "right"), (20, 40, "both"), (0, 31, None), (29, 31, None)]
)
def test_side(x1, x2, side):
    assert side_of((x1, 0, x2, 9), 60) == side


def test_windowing_clips_and_spans_black_to_white():
    assert to_uint8(np.array([-1000, -160, 40, 240, 3000]), -160, 240).tolist() == [0, 0, 128, 255, 255]
    flat = np.full((3, 3), 7.0)
    assert to_uint8(flat, *percentile_window(flat)).max() == 0


ORIENTATIONS = [
    "".join(sign[axis in flipped] for axis in order for sign in [("RAS"[axis], "LPI"[axis])])
    for order in itertools.permutations(range(3))
    for flipped in [set(), {0}, {0, 1}, {0, 1, 2}, {2}]
]


def stored_as(codes, body_XYZ, spacing=(1.0, 2.0, 3.0)):
    """Store a RAS+ body with the axes that `codes` names. Returns the stored array and its affine; written apart from
    nibabel: the affine's column for each stored axis points where its letter says."""
    axes = [0 if code in "RL" else 1 if code in "AP" else 2 for code in codes]
    stored = body_XYZ.transpose(axes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for place, (code, axis) in enumerate(zip(codes, axes, strict=True)):
        affine[axis, place] = spacing[axis]
        if code in "LPI":
            stored = np.flip(stored, place)
            affine[axis, place] = -spacing[axis]
            affine[axis, 3] = spacing[axis] * (body_XYZ.shape[axis] - 1)
    return stored, affine


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_storage_order_gives_the_same_body(codes):
    body_XYZ = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    stored, affine = stored_as(codes, body_XYZ)
    turned, spacing = to_ras(stored, affine)
    np.testing.assert_array_equal(turned, body_XYZ)
    assert spacing == (1.0, 2.0, 3.0)


def test_slices_are_shown_as_radiologists_look_at_them():
    body_XYZ = np.zeros((5, 7, 9), dtype=int)
    body_XYZ[4, 6, 8] = 1  # right, front, head
    body_XYZ[0, 0, 0] = 2  # left, back, feet
    axial_top, coronal_front, sagittal_right = (
        shown_slice(body_XYZ, "axial", 8),
        shown_slice(body_XYZ, "coronal", 6),
        shown_slice(body_XYZ, "sagittal", 4),
    )
    assert (axial_top.shape, coronal_front.shape, sagittal_right.shape) == ((7, 5), (9, 5), (9, 7))
    # The patient's right and front are at the image's left and top; the head is at the top; the front is at the left.
    assert axial_top[0, 0] == coronal_front[0, 0] == sagittal_right[0, 0] == 1
    assert shown_slice(body_XYZ, "axial", 0)[-1, -1] == 2
    assert shown_slice(body_XYZ, "coronal", 0)[-1, -1] == 2
    assert shown_slice(body_XYZ, "sagittal", 0)[-1, -1] == 2


LPS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


@pytest.mark.parametrize(
    ("plane", "across", "down"), [("axial", "LR", "PA"), ("coronal", "LR", "IS"), ("sagittal", "PA", "IS")]
)
@pytest.mark.parametrize("flips", list(itertools.product((0, 1), repeat=3)))
def test_a_dicom_slice_is_shown_as_the_same_slice_of_a_volume(plane, across, down, flips):
    shown = np.arange(12).reshape(3, 4)
    flip_across, flip_down, swap = flips
    stored = shown[:: -1 if flip_down else 1, :: -1 if flip_across else 1]
    directions = [LPS[across[flip_across]], LPS[down[flip_down]]]
    if swap:
        stored, directions = stored.T, directions[::-1]
    turned, found, swapped = shown_picture(stored, [*directions[0], *directions[1]])
    np.testing.assert_array_equal(turned, shown)
    assert (found, swapped) == (plane, bool(swap))


@pytest.mark.parametrize(("degrees", "plane"), [(0, "axial"), (15, "axial"), (30, None), (45, None)])
def test_an_oblique_slice_has_no_plane(degrees, plane):
    tilt = np.radians(degrees)
    assert shown_picture(np.zeros((2, 2)), [1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)])[1] == plane
