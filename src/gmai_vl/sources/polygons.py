"""Polygons and run lengths of annotation files as masks: checked first, since the library beneath trusts its input."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gmai_vl.foundation import BadItem
from gmai_vl.sources.rle import decode_mask

MAX_CORNERS = 200_000
"""Of all polygons of one thing."""

MAX_OUTLINE = 2_000_000
"""Length in pixels, all polygons of one thing; the library's memory grows with it."""

_SLACK = 1.0
"""Pixels that a corner may lie outside the image."""


def filled(polygons: Sequence[Sequence[float]], width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask [H, W] of the union of polygons, each [x1, y1, x2, y2, ...] in pixels, filled as COCO does.

    Raises BadItem if a polygon has fewer than three corners or one that is not finite or outside the image.
    """
    if sum(map(len, polygons)) > 2 * MAX_CORNERS:
        raise BadItem(f"a polygon has more than {MAX_CORNERS} corners")
    whole = np.zeros((height, width), dtype=bool)
    length = 0.0
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise BadItem(f"a polygon of {len(polygon)} numbers; three corners are six numbers")
        for place, value in enumerate(polygon):
            side = height if place % 2 else width
            if not math.isfinite(value) or not -_SLACK <= value <= side + _SLACK:
                raise BadItem(f"a polygon's corner at {'xy'[place % 2]} = {value:g} lies outside {width} x {height}")
        length += sum(abs(end - start) for start, end in zip(polygon, polygon[2:], strict=False))
        if length > MAX_OUTLINE:
            raise BadItem(f"a polygon's outline is longer than {MAX_OUTLINE} pixels")
        inside = [min(max(value, 0.0), float(height if place % 2 else width)) for place, value in enumerate(polygon)]
        whole |= coco_mask.decode(coco_mask.frPyObjects([inside], height, width))[..., 0].astype(bool)
    return whole


def run_lengths(segmentation: dict[str, Any], width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask [H, W] of COCO's run lengths: a list of counts, or the text that its tools write.

    Raises BadItem if they are damaged or do not fill exactly `width` x `height` pixels.
    """
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if size != [height, width]:
        raise BadItem(f"run lengths of size {size} for an image of height {height} and width {width}")
    if isinstance(counts, str):
        counts = _counts_of(counts, limit=width * height + 1)
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise BadItem("run lengths that are neither a list of counts nor a text")
    if len(counts) > width * height + 1:
        raise BadItem(f"{len(counts)} run lengths for {width * height} pixels")
    try:
        return decode_mask(counts, width, height)
    except ValueError as error:
        raise BadItem(f"run lengths: {error}") from None


def _counts_of(text: str, limit: int) -> list[int]:
    """Return the counts of COCO's compressed form.

    Five bits a character from 48 on, the sixth says that more follow; from the fourth count on, it is the difference
    to the count before the last (COCO API, maskApi.c).
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60 or len(counts) > limit:
            raise BadItem("run lengths that are no text of COCO's compressed form")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise BadItem("run lengths that break off in the middle of a number")
    return counts
