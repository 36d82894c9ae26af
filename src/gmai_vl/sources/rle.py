"""Run-length coded masks: counts of equal pixels down the columns, the first of false ones (COCO, uncompressed)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode_mask(mask_HW: NDArray[np.bool_]) -> list[int]:
    """Return the run lengths of `mask_HW` read column by column; they add up to H * W, and the first may be 0."""
    pixels = mask_HW.flatten(order="F")
    starts = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate(([0], starts, [pixels.size])))
    return ([0] if pixels[0] else []) + counts.tolist()


def decode_mask(counts: Sequence[int], width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask [H, W] of `counts`. Raises ValueError if they do not fill exactly `width` x `height` pixels."""
    if any(count < 0 for count in counts) or sum(counts) != width * height:
        raise ValueError(f"mask of {sum(counts)} pixels for an image of {width}x{height}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")
