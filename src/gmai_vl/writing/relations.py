"""How two findings lie to each other, said only where it is clear: directions from boxes, contact from masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_fill_holes, distance_transform_edt

from gmai_vl.records import Box, Case, Finding
from gmai_vl.vocabulary import Term, akin

LEFT = Term("to the left of it", "在其左侧")
RIGHT = Term("to the right of it", "在其右侧")
ABOVE = Term("above it", "在其上方")
BELOW = Term("below it", "在其下方")
DIRECTIONS = (LEFT, RIGHT, ABOVE, BELOW)
"""Directions in the image, as the viewer sees it."""

ANTERIOR = Term("anterior to it", "在其前方")
POSTERIOR = Term("posterior to it", "在其后方")
SUPERIOR = Term("superior to it", "在其头侧")
INFERIOR = Term("inferior to it", "在其足侧")

BODY_DIRECTIONS: dict[str, dict[Term, Term]] = {
    "axial": {ABOVE: ANTERIOR, BELOW: POSTERIOR},
    "coronal": {ABOVE: SUPERIOR, BELOW: INFERIOR},
    "sagittal": {ABOVE: SUPERIOR, BELOW: INFERIOR, LEFT: ANTERIOR, RIGHT: POSTERIOR},
}
"""What a direction in the image is in the body, by how the planes are shown: front or head up, sagittal front left."""

INSIDE = Term("inside it", "在其内部")
SURROUNDED = Term("surrounded by it", "被其包绕")
OVERLAPPING = Term("partly overlapping it", "与其部分重叠")
TOUCHING = Term("touching it from outside", "与其相接")
APART = Term("apart from it", "与其分离")

SURELY_NOT: dict[Term, tuple[Term, ...]] = {
    INSIDE: (APART, TOUCHING),
    SURROUNDED: (APART, OVERLAPPING),
    OVERLAPPING: (APART, INSIDE, SURROUNDED),
    TOUCHING: (APART, INSIDE, OVERLAPPING, SURROUNDED),
    APART: (INSIDE, OVERLAPPING, TOUCHING, SURROUNDED),
}
"""Contact -> the others that are false then: what is inside overlaps too, what is surrounded touches too."""

MOST_RELATED = 5
"""Findings of a case that are held against each other, the largest ones: pairs grow with their square."""

OVERRUN = 0.1
"""Share of the smaller extent by which two boxes may run over each other and still lie side by side."""

FACING = 0.5
"""Share of the smaller extent that two boxes side by side share across."""

STEEP = 2.0
"""Times that the centres are further apart along the direction than across it."""

CENTRES_APART = 0.04
"""Share of the image between the centres of two boxes below which no direction is told."""

ALL_BUT = 0.02
"""Share of a mask that may disagree where all or none of it is meant."""

PART = 0.1
"""Share of the smaller mask from which two masks overlap, and up to which one is not inside the other."""

SMALLER = 0.7
"""Share of the other's area up to which a mask lies inside it, instead of being much the same."""

FEWEST_TOUCHING = 4
"""Pixels of one mask that have the other beside them before the two touch."""

GAP = 0.03
"""Share of the image's diagonal from which two masks are apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """How `subject` lies to `other`."""

    subject: Term
    other: Term

    direction: Term | None
    """In the image; None where it is oblique or the boxes run into each other."""

    contact: Term | None
    """None where a mask is missing or the answer would depend on a few pixels."""


def pairs_of(case: Case, singles: Sequence[Finding]) -> tuple[Pair, ...]:
    """Return the pairs of findings, both ways, of which something is clear.

    `singles` are boxed findings that are the only ones of their labels. A kidney and a left kidney are no pair.
    """
    largest = sorted(singles, key=lambda finding: -(finding.area_share or 0.0))[:MOST_RELATED]
    chosen = [finding for finding in singles if any(finding is other for other in largest)]
    pairs = []
    for one, other in combinations(chosen, 2):
        if akin(one.label, other.label):
            continue
        for subject, reference in ((one, other), (other, one)):
            direction, contact = direction_of(subject, reference, case), contact_of(subject, reference, case)
            if direction or contact:
                pairs.append(Pair(subject=subject.label, other=reference.label, direction=direction, contact=contact))
    return tuple(pairs)


def direction_of(one: Finding, other: Finding, case: Case) -> Term | None:
    """Return where the box of `one` lies beside, above or below that of `other`; None where that is not clear."""
    assert one.box is not None and other.box is not None
    across = _beside(one.box, other.box, 0, case.width)
    if across:
        return LEFT if across < 0 else RIGHT
    down = _beside(one.box, other.box, 1, case.height)
    return (ABOVE if down < 0 else BELOW) if down else None


def contact_of(one: Finding, other: Finding, case: Case) -> Term | None:
    """Return how the mask of `one` meets that of `other`; None where that is not clear."""
    if one.mask is None or other.mask is None or one.box is None or other.box is None:
        return None
    far = GAP * float(np.hypot(case.width, case.height))
    if _gap(one.box, other.box) >= far:
        return APART
    margin = int(np.ceil(far)) + 1
    mine, others = (_around(finding.mask, one.box, other.box, margin) for finding in (one, other))
    area, other_area = np.count_nonzero(mine), np.count_nonzero(others)
    shared = np.count_nonzero(mine & others)
    if shared >= (1 - ALL_BUT) * area and area <= SMALLER * other_area:
        return INSIDE
    if shared > ALL_BUT * min(area, other_area):
        clear = PART * min(area, other_area) <= shared <= (1 - PART) * min(area, other_area)
        return OVERLAPPING if clear else None
    if shared:
        return None
    filled = np.count_nonzero(mine & binary_fill_holes(others))
    if filled >= (1 - ALL_BUT) * area:
        return SURROUNDED
    if np.count_nonzero(mine & binary_dilation(others)) >= FEWEST_TOUCHING:
        return TOUCHING if filled == 0 and not (others & binary_fill_holes(mine)).any() else None
    return APART if float(distance_transform_edt(~others)[mine].min()) - 1 >= far else None


def _beside(one: Box, other: Box, axis: int, length: int) -> int:
    """Return -1 where `one` lies clearly before `other` along an axis of `length` pixels, 1 where behind, else 0."""
    extents = [(box[axis], box[axis + 2]) for box in (one, other)]
    across = [(box[1 - axis], box[3 - axis]) for box in (one, other)]
    between = (sum(extents[1]) - sum(extents[0])) / 2
    sideways = abs(sum(across[1]) - sum(across[0])) / 2
    if abs(between) < max(CENTRES_APART * length, STEEP * sideways, 1):
        return 0
    shorter = min(end - start for start, end in extents)
    overrun = min(extents[0][1], extents[1][1]) - max(extents[0][0], extents[1][0])
    facing = min(across[0][1], across[1][1]) - max(across[0][0], across[1][0])
    if overrun > OVERRUN * shorter or facing < FACING * min(end - start for start, end in across):
        return 0
    return -1 if between > 0 else 1


def _gap(one: Box, other: Box) -> float:
    """Return the pixels between two boxes, 0 where they meet."""
    across = max(one[0] - other[2], other[0] - one[2], 0)
    down = max(one[1] - other[3], other[1] - one[3], 0)
    return float(np.hypot(across, down))


def _around(mask_HW: NDArray[np.bool_] | None, one: Box, other: Box, margin: int) -> NDArray[np.bool_]:
    """Cut out of a mask what lies around both boxes."""
    assert mask_HW is not None
    top, left = max(0, min(one[1], other[1]) - margin), max(0, min(one[0], other[0]) - margin)
    return mask_HW[top : max(one[3], other[3]) + margin, left : max(one[2], other[2]) + margin]
