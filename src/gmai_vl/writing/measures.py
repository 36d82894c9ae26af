"""Measurements of a masked finding in millimetres, where the pixel pitch is known, and how they are rounded and said.

A length has an uncertainty of about a pixel: what is shorter than three pixels is not measured, and nothing is said
more exactly than to the millimetre, or below 10 mm, where pixels are smaller than half a millimetre, to a tenth.
Areas have two significant digits. They are those of the picture, which for a slice is one cut through the thing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from gmai_vl.records import Case, Finding
from gmai_vl.vocabulary import Term

FEWEST_PIXELS_ACROSS = 3
"""Pixels that a finding spans both ways before it is measured."""

TENTHS_BELOW_MM = 10
TENTHS_PITCH_MM = 0.5
"""Below both, lengths are said in tenths of a millimetre."""

SQUARE_CM_FROM_MM2 = 100
"""From here areas are said in square centimetres."""

LEAST_PERCENT = 1
"""Share of the image, in percent, below which no number is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """Lengths and area of one connected mask, as they are said."""

    width: str
    """Number of millimetres across the image, without its unit."""

    height: str
    """Number of millimetres down the image."""

    diameter_mm: float
    """Longest straight line between two points of the outline, not rounded."""

    diameter: Term

    area_mm2: float

    area: Term

    tenths: bool
    """Whether lengths under 10 mm are said in tenths."""


def measures_of(finding: Finding, case: Case) -> Measures | None:
    """Measure a finding; None without a mask or a pixel pitch, or where it is too small to be measured."""
    if finding.mask is None or finding.box is None or case.spacing_mm is None:
        return None
    x1, y1, x2, y2 = finding.box
    if min(x2 - x1, y2 - y1) < FEWEST_PIXELS_ACROSS:
        return None
    row_mm, column_mm = case.spacing_mm
    tenths = max(row_mm, column_mm) < TENTHS_PITCH_MM
    width, height = (x2 - x1) * column_mm, (y2 - y1) * row_mm
    area = int(np.count_nonzero(finding.mask)) * row_mm * column_mm
    if min(width, height) < 1 or area < 1:
        return None
    longest = longest_diameter(finding.mask, row_mm, column_mm)
    return Measures(
        width=length_number(width, tenths),
        height=length_number(height, tenths),
        diameter_mm=longest,
        diameter=length_term(longest, tenths),
        area_mm2=area,
        area=area_term(area),
        tenths=tenths,
    )


def percent_of(finding: Finding) -> int | None:
    """Return the share of the image in whole percent; None without a mask, and under 1 %."""
    if finding.mask is None or finding.area_share is None or 100 * finding.area_share < LEAST_PERCENT:
        return None
    return round(100 * finding.area_share)


def longest_diameter(mask_HW: NDArray[np.bool_], row_mm: float, column_mm: float) -> float:
    """Return the longest distance in mm between two corners of true pixels. There must be at least one."""
    rows = np.flatnonzero(mask_HW.any(axis=1))
    first = mask_HW[rows].argmax(axis=1)
    beyond = mask_HW.shape[1] - mask_HW[rows, ::-1].argmax(axis=1)
    corners = np.concatenate([np.stack([x, y], axis=1) for x in (first, beyond) for y in (rows, rows + 1)])
    hull = ConvexHull(corners * (column_mm, row_mm))
    return float(pdist(hull.points[hull.vertices]).max())


def length_number(mm: float, tenths: bool) -> str:
    """Return a length in millimetres as it is said."""
    return f"{mm:.1f}" if tenths and mm < TENTHS_BELOW_MM else f"{mm:.0f}"


def length_term(mm: float, tenths: bool) -> Term:
    """Return a length with its unit, "23 mm"."""
    number = length_number(mm, tenths)
    return Term(f"{number} mm", f"{number}毫米")


def area_term(mm2: float) -> Term:
    """Return an area with its unit to two significant digits, "45 mm²", "3.5 cm²" or "120 cm²"."""
    if mm2 < SQUARE_CM_FROM_MM2 - 0.5:  # 99.5 would be said as 100
        number = f"{mm2:.0f}" if mm2 >= 9.95 else f"{mm2:.1f}"
        return Term(f"{number} mm²", f"{number}平方毫米")
    cm2 = mm2 / 100
    number = f"{cm2:.1f}" if cm2 < 9.95 else f"{round(cm2, 1 - int(np.floor(np.log10(cm2)))):.0f}"
    return Term(f"{number} cm²", f"{number}平方厘米")


def value_of(measure: Term) -> float:
    """Return what `length_term` or `area_term` gave, in mm or mm²."""
    number, unit = measure.en.split()
    return float(number) * (100 if unit == "cm²" else 1)
