"""Marks in a copy of an image: a box, a half-transparent mask, a contour. Nothing else of the picture changes."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gmai_vl.records import Box, Finding

# H, W: rows and columns of the image · 3: red, green, blue

LINE = 2.5 / 336
"""Width of a line as a share of the longer side: 2 to 3 pixels where a model sees 336 (CLIP ViT-L/14-336)."""

COLORS = ((0, 114, 178), (86, 180, 233), (240, 228, 66), (213, 94, 0))
"""Blue, sky blue, yellow, vermillion: told apart by color-blind people too (Okabe and Ito, 2008)."""

OPACITY = 0.5
"""Of a mask."""


def line_width(width: int, height: int) -> int:
    """Return the width in pixels of the lines in an image of this size, at least 1."""
    return max(1, round(LINE * max(width, height)))


def draw(pixels: NDArray[np.uint8], finding: Finding, granularity: str) -> NDArray[np.uint8]:
    """Return a copy [H, W, 3] of an image [H, W] or [H, W, 3] in which the region of `finding` is marked.

    `granularity` is box, mask or contour. Of the four colors that one is taken which is farthest from what it covers.
    """
    height, width = pixels.shape[:2]
    drawn_HW3 = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels.copy()
    line = line_width(width, height)
    if granularity == "box":
        assert finding.box is not None
        marked_HW = frame(finding.box, width, height, line)
    else:
        assert finding.mask is not None
        marked_HW = finding.mask if granularity == "mask" else outline(finding.mask, line)
    under_N3 = drawn_HW3[marked_HW].astype(np.float64)
    color_3 = _farthest_color(under_N3)
    opacity = OPACITY if granularity == "mask" else 1.0
    drawn_HW3[marked_HW] = np.rint((1 - opacity) * under_N3 + opacity * color_3).astype(np.uint8)
    return drawn_HW3


def frame(box: Box, width: int, height: int, line: int) -> NDArray[np.bool_]:
    """Return the pixels [H, W] of a line about a box: just outside of it, and inside where the image ends there."""
    x1, y1, x2, y2 = box
    left, top, right, bottom = max(x1 - line, 0), max(y1 - line, 0), min(x2 + line, width), min(y2 + line, height)
    frame_HW = np.zeros((height, width), np.bool_)
    frame_HW[top:bottom, left:right] = True
    frame_HW[top + line : bottom - line, left + line : right - line] = False
    return frame_HW


def outline(mask_HW: NDArray[np.bool_], line: int) -> NDArray[np.bool_]:
    """Return the pixels [H, W] of a line along the rim of a mask, half outside of it and half inside.

    Where the mask reaches the end of the image, the line runs along that.
    """
    outside = (line + 1) // 2
    disk_KK = _disk(outside)
    wide_HW = ndimage.binary_dilation(mask_HW, disk_KK)
    if line == outside:  # one pixel: outside, but along the end of the image there is only inside
        inner_HW = mask_HW & ~_rim_of_image(mask_HW)
    else:
        inner_HW = ndimage.binary_erosion(mask_HW, _disk(line - outside), border_value=0)
    return wide_HW & ~inner_HW


def _disk(radius: int) -> NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk_KK: NDArray[np.bool_] = x * x + y * y <= radius * radius
    return disk_KK


def _rim_of_image(mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rim_HW = np.ones_like(mask_HW)
    rim_HW[1:-1, 1:-1] = False
    return rim_HW


def _farthest_color(under_N3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the color whose mean distance from the pixels that it covers is largest."""
    colors_C3 = np.array(COLORS, dtype=np.float64)
    distances = [float(np.linalg.norm(under_N3 - color_3, axis=1).mean()) for color_3 in colors_C3]
    farthest_3: NDArray[np.float64] = colors_C3[int(np.argmax(distances))]
    return farthest_3
