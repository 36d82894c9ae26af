"""Facts of a case computed again for the check of a text, each by another way than the writer's."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as label_pieces
from scipy.spatial import cKDTree

from gmai_vl.records import Case, Finding, Side
from gmai_vl.vocabulary import Term, modality
from gmai_vl.writing.facts import HALVES, POSITIONS, SIZES
from gmai_vl.writing.laterality import MIDLINE, OFF_MIDDLE, WHOLE_WIDTH_MM, own_side
from gmai_vl.writing.relations import (
    ABOVE,
    ANTERIOR,
    APART,
    BELOW,
    CENTRES_APART,
    FACING,
    GAP,
    INFERIOR,
    INSIDE,
    LEFT,
    OVERLAPPING,
    OVERRUN,
    POSTERIOR,
    RIGHT,
    SMALLER,
    SUPERIOR,
    SURROUNDED,
    TOUCHING,
)

ANGLES = 1440
"""Directions between 0 and 180 degrees that a diameter is looked for in: exact to one part in a million."""

NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """What the mask of a finding measures."""

    one_piece: bool
    """Whether its pixels hang together, corners included."""

    columns: int
    """Pixel columns that hold any of it."""

    rows: int

    diameter_mm: float
    """Greatest width over all directions."""


@dataclass(frozen=True, kw_only=True)
class MeasuredCase(Case):
    """A case that keeps what has been measured of its findings: many texts speak of the same ones."""

    extents: dict[int, Extent] = field(default_factory=dict)
    """By the `id` of the finding, which lives as long as the case."""

    contacts: dict[tuple[int, int], dict[Term, bool]] = field(default_factory=dict)
    """By the `id`s of two findings."""


def measured(case: Case) -> MeasuredCase:
    """Return `case` ready to keep its measurements; nothing is measured before a text speaks of it."""
    return MeasuredCase(**{each.name: getattr(case, each.name) for each in fields(Case)})


def modality_of(case: Case) -> Term:
    """Return the modality as a term."""
    assert case.modality is not None, f"{case.case_id}: an annotated image has a modality"
    return modality(case.modality)


def half_of(finding: Finding, case: Case) -> Term:
    """Return the half of the image that holds the centre of the box."""
    assert finding.box is not None
    return HALVES["left" if finding.box[0] + finding.box[2] < case.width else "right"]


def cell_of(finding: Finding, case: Case) -> Term:
    """Return the cell of the grid of thirds that holds the centre of the box."""
    assert finding.box is not None
    x1, y1, x2, y2 = finding.box
    column = np.searchsorted([2 * case.width, 4 * case.width], 3 * (x1 + x2), side="right")
    row = np.searchsorted([2 * case.height, 4 * case.height], 3 * (y1 + y2), side="right")
    return POSITIONS[int(row)][int(column)]


def size_of(finding: Finding, case: Case) -> Term:
    """Return small, medium or large."""
    assert finding.area_share is not None
    return SIZES[int(np.searchsorted([0.02, 0.10], finding.area_share, side="right"))]


def side_of_patient(finding: Finding, case: Case) -> Side | None:
    """Return the patient's side that the finding is on: the one that its label names, else that of the picture."""
    if named := own_side(finding.label):
        return named
    if finding.label.en.lower() in MIDLINE:
        return None
    for other in case.findings:
        named, shown = own_side(other.label), _side_shown(other, case)
        if named and shown and named != shown:
            return None
    return _side_shown(finding, case)


def _side_shown(finding: Finding, case: Case) -> Side | None:
    part = case.body_part.en.lower() if case.body_part else ""
    if case.plane not in ("axial", "coronal") or case.spacing_mm is None or finding.box is None:
        return None
    if case.spacing_mm[1] * case.width < WHOLE_WIDTH_MM.get(part, np.inf):
        return None
    columns = (np.arange(finding.box[0], finding.box[2]) + 0.5) / case.width - 0.5
    half_pixel = 0.5 / case.width - 1e-9
    if (columns <= -OFF_MIDDLE - half_pixel).all():
        return "right"  # axial and coronal slices show the patient's right on the left
    return "left" if (columns >= OFF_MIDDLE + half_pixel).all() else None


def directions_of(one: Finding, other: Finding, case: Case) -> set[Term]:
    """Return every name, in the image and in the body, of the direction in which `one` lies from `other`."""
    assert one.box is not None and other.box is not None
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = one.box, other.box
    columns, other_columns = set(range(ax1, ax2)), set(range(bx1, bx2))
    rows, other_rows = set(range(ay1, ay2)), set(range(by1, by2))
    step_x, step_y = (bx1 + bx2 - ax1 - ax2) / 2, (by1 + by2 - ay1 - ay2) / 2
    along_x = abs(step_x) >= 2 * abs(step_y)
    along_y = abs(step_y) >= 2 * abs(step_x)
    found = set()
    if along_x and _lie_apart(columns, other_columns, rows, other_rows) and abs(step_x) >= CENTRES_APART * case.width:
        found.add(LEFT if step_x > 0 else RIGHT)
    elif (
        along_y and _lie_apart(rows, other_rows, columns, other_columns) and abs(step_y) >= CENTRES_APART * case.height
    ):
        found.add(ABOVE if step_y > 0 else BELOW)
    in_body = {
        "axial": {ABOVE: ANTERIOR, BELOW: POSTERIOR},
        "coronal": {ABOVE: SUPERIOR, BELOW: INFERIOR},
        "sagittal": {ABOVE: SUPERIOR, BELOW: INFERIOR, LEFT: ANTERIOR, RIGHT: POSTERIOR},
    }.get(str(case.plane), {})
    return found | {in_body[direction] for direction in found if direction in in_body}


def _lie_apart(along: set[int], other_along: set[int], across: set[int], other_across: set[int]) -> bool:
    common, facing = len(along & other_along), len(across & other_across)
    shorter, narrower = min(len(along), len(other_along)), min(len(across), len(other_across))
    return common <= OVERRUN * shorter and facing >= FACING * narrower


def contacts_of(one: Finding, other: Finding, case: MeasuredCase) -> dict[Term, bool]:
    """Return for every kind of contact whether the mask of `one` has it to that of `other`; empty without masks.

    What depends on a few pixels is false, and so is its contrary.
    """
    key = id(one), id(other)
    if key not in case.contacts:
        case.contacts[key] = _contacts(one, other, case)
    return case.contacts[key]


def _contacts(one: Finding, other: Finding, case: Case) -> dict[Term, bool]:
    if one.mask is None or other.mask is None:
        return {}
    mine, others = _cut_about_both(one.mask, other.mask)
    area, other_area, shared = int(mine.sum()), int(others.sum()), int(np.logical_and(mine, others).sum())
    lesser = min(area, other_area)
    within = shared / area
    beside = int(_beside(others)[mine].sum())
    hidden, hides = _enclosed(others)[mine].mean(), _enclosed(mine)[others].mean()
    apart = _distance(mine, others) - 1 >= GAP * float(np.hypot(case.width, case.height)) * (1 - 1e-9)
    return {
        INSIDE: within >= 0.98 and area <= SMALLER * other_area,
        OVERLAPPING: 0.1 * lesser <= shared <= 0.9 * lesser,
        SURROUNDED: shared == 0 and hidden >= 0.98,
        TOUCHING: shared == 0 and beside >= 4 and hidden == 0 and hides == 0,
        APART: shared == 0 and apart,
    }


def _cut_about_both(one_HW: NDArray[np.bool_], other_HW: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return both masks on the smallest field that holds both, with a rim of one pixel that holds neither."""
    rows, columns = (np.flatnonzero((one_HW | other_HW).any(axis=axis)) for axis in (1, 0))
    field = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [np.pad(mask[field].astype(bool), 1) for mask in (one_HW, other_HW)]


def _beside(mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pixels have a true one above, below, left or right."""
    padded = np.pad(mask_HW, 1)
    return np.any([np.roll(padded, step, axis=(0, 1))[1:-1, 1:-1] for step in NEIGHBOURS], axis=0)


def _enclosed(mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pixels cannot be reached from the rim of the image without crossing the mask."""
    areas, _ = label_pieces(np.pad(~mask_HW, 1, constant_values=True))
    return np.asarray(areas != areas[0, 0])[1:-1, 1:-1] & ~mask_HW


def _distance(one_HW: NDArray[np.bool_], other_HW: NDArray[np.bool_]) -> float:
    """Return the pixels between the nearest centres of true pixels of two masks, neither of which meets the rim."""
    outlines = [np.argwhere(mask & _beside(~mask)) for mask in (one_HW, other_HW)]
    return float(cKDTree(outlines[0]).query(outlines[1])[0].min())


MEASURE = re.compile(
    r"(?P<w>\d+(?:\.\d)?)\s?(?:毫米)?\s?(?:x|by|×)\s?(?P<h>\d+(?:\.\d)?)\s?(?:mm\b(?!²)|毫米)"
    r"|(?P<area>\d+(?:\.\d)?)\s?(?P<unit>mm²|cm²|平方毫米|平方厘米)"
    r"|宽约?(?P<zh_wide>\d+(?:\.\d)?)毫米|高约?(?P<zh_high>\d+(?:\.\d)?)毫米"
    r"|(?P<wide>\d+(?:\.\d)?) mm wide|(?P<high>\d+(?:\.\d)?) mm high"
    r"|(?P<length>\d+(?:\.\d)?)\s?(?:mm\b|毫米)"
    r"|(?P<percent>\d+)\s?%"
)
"""Measurements as texts give them; a length of no named direction is the longest diameter."""


def measures_in(text: str) -> Iterator[re.Match[str]]:
    """Yield the measurements of a text."""
    return MEASURE.finditer(text)


def is_measure_of(match: re.Match[str], finding: Finding, case: MeasuredCase) -> bool:
    """Say whether a measurement is that of the finding, as exactly as its digits are shown."""
    if finding.mask is None or finding.area_share is None:
        return False
    found: dict[str, Any] = {name: value for name, value in match.groupdict().items() if value is not None}
    if percent := found.get("percent"):
        return abs(100 * finding.area_share - float(percent)) <= 0.5 + 1e-6
    if case.spacing_mm is None or not (extent := _extent_of(finding, case)).one_piece:
        return False
    row_mm, column_mm = case.spacing_mm
    if area := found.get("area"):
        factor = 1 if found["unit"] in ("mm²", "平方毫米") else 100
        return _fits_area(float(area), finding.area_share * case.width * case.height * row_mm * column_mm / factor)
    widths = [found[name] for name in ("w", "wide", "zh_wide") if name in found]
    heights = [found[name] for name in ("h", "high", "zh_high") if name in found]
    lengths = [found[name] for name in ("length",) if name in found]
    return (
        all(_fits(width, extent.columns * column_mm) for width in widths)
        and all(_fits(height, extent.rows * row_mm) for height in heights)
        and all(_fits(length, extent.diameter_mm) for length in lengths)
    )


def _fits(said: str, millimetres: float) -> bool:
    """Say whether a length is right to half a unit of its last digit."""
    unit = 0.1 if "." in said else 1.0
    return abs(float(said) - millimetres) <= unit / 2 + 1e-5 * millimetres + 1e-6


def _fits_area(said: float, value: float) -> bool:
    """Say whether an area is right to two significant digits."""
    unit = 10.0 ** (np.floor(np.log10(said)) - 1) if said > 0 else 0.0
    return abs(said - value) <= unit / 2 * (1 + 1e-6)


def _extent_of(finding: Finding, case: MeasuredCase) -> Extent:
    """Return the extent of a finding with a mask, of a case with a pixel pitch."""
    if id(finding) not in case.extents:
        assert finding.mask is not None and case.spacing_mm is not None
        rows, columns = (np.flatnonzero(finding.mask.any(axis=axis)) for axis in (1, 0))
        field_HW = finding.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        case.extents[id(finding)] = Extent(
            one_piece=int(label_pieces(field_HW, structure=np.ones((3, 3)))[1]) == 1,
            columns=len(columns),
            rows=len(rows),
            diameter_mm=_diameter(field_HW, *case.spacing_mm),
        )
    return case.extents[id(finding)]


def _diameter(mask_HW: NDArray[np.bool_], row_mm: float, column_mm: float) -> float:
    """Return the greatest width of the mask over all directions, in mm."""
    columns = np.flatnonzero(mask_HW.any(axis=0))
    first = mask_HW[:, columns].argmax(axis=0)
    beyond = mask_HW.shape[0] - mask_HW[::-1, columns].argmax(axis=0)
    corners = np.concatenate([np.stack([x, y]) for x in (columns, columns + 1) for y in (first, beyond)], axis=1)
    angles = np.linspace(0, np.pi, ANGLES, endpoint=False)
    along = np.stack([np.cos(angles) * column_mm, np.sin(angles) * row_mm], axis=1) @ corners
    return float((along.max(axis=1) - along.min(axis=1)).max())
