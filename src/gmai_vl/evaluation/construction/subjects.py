"""What a case can be asked about: its whole-image labels, and its regions as box, mask and contour."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gmai_vl.evaluation.construction.draw import line_width
from gmai_vl.foundation import canonical_json, sha256_of_text
from gmai_vl.records import Case, Finding
from gmai_vl.sources.rle import encode_mask
from gmai_vl.vocabulary import Term

Granularity = Literal["image", "box", "mask", "contour"]
"""What is looked at: the whole image, or a region that is drawn into it (GMAI-MMBench)."""

SMALLEST_SIDE = 0.02
"""Of a region's outer box, as a share of the longer side of the image: 7 of a model's 336 pixels, half a patch."""

SMALLEST_SIDE_IN_LINES = 3
"""Of a region's outer box, in widths of the line that is drawn about it: else the line hides what it marks."""

SMALLEST_AREA = 0.0005
"""Of a mask, as a share of the image."""

LARGEST_AREA = 0.9
"""Of a box, or of a mask, as a share of the image: a mark of everything marks nothing."""

SMALLEST_FILL = 0.25
"""Of a mask in its box: about a thread the box shows other things than its label."""

MAIN_PIECE = 0.9
"""Of a mask, in its largest connected piece: a box about two kidneys shows the spine."""

TOO_SMALL = "region too small to be seen"
TOO_LARGE = "region covers nearly the whole image"
TOO_LOOSE = "box shows little of what it is about"
SEVERAL = "box is about several pieces"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Cell:
    """One square of the table that a benchmark fills."""

    clinical_task: str
    department: str
    """Empty where the corpus does not tell it."""

    modality: str
    granularity: Granularity

    @property
    def name(self) -> str:
        """The cell in words, which chance in it depends on."""
        return " · ".join(filter(None, (self.clinical_task, self.department, self.modality, self.granularity)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One thing of a case that a question can be about."""

    granularity: Granularity
    label: Term
    """The right answer."""

    finding: Finding | None
    """The region; None for the whole image."""


def cell_of(case: Case, granularity: Granularity) -> Cell:
    """Return the cell of a question about `case`, which has a modality and a clinical task."""
    assert case.clinical_task is not None and case.modality is not None, case.case_id
    return Cell(
        clinical_task=case.clinical_task,
        department=case.department or "",
        modality=case.modality,
        granularity=granularity,
    )


def labels_of(case: Case) -> list[Term]:
    """Return all labels that the annotation gives, each once; the negative one where nothing is found."""
    labels = dict.fromkeys(finding.label for finding in case.findings)
    return list(labels) or ([case.negative] if case.negative else [])


def subjects_of(case: Case) -> tuple[list[Subject], Counter[str]]:
    """Return what `case` can be asked about, and how many questions were left out for which reason.

    Labels without a region are asked of the whole image; so is the negative label, where nothing was found. A region
    with a box is asked as a box, one with a mask as mask and contour too. Regions that are equal in all count once.
    """
    subjects = [
        Subject(granularity="image", label=label, finding=None)
        for label in labels_of(case)
        if not any(finding.box and finding.label == label for finding in case.findings)
    ]
    left_out: Counter[str] = Counter()
    for finding in {region_name(finding): finding for finding in case.findings if finding.box}.values():
        for granularity in _granularities(finding):
            if fault := fault_of(finding, granularity, case):
                left_out[fault] += 1
            else:
                subjects.append(Subject(granularity=granularity, label=finding.label, finding=finding))
    return subjects, left_out


def _granularities(finding: Finding) -> Iterator[Granularity]:
    yield "box"
    if finding.mask is not None:
        yield "mask"
        yield "contour"


def fault_of(finding: Finding, granularity: Granularity, case: Case) -> str | None:
    """Return why a region is no fair question at this granularity; None where it is one."""
    assert finding.box is not None
    x1, y1, x2, y2 = finding.box
    image, box = case.width * case.height, (x2 - x1) * (y2 - y1)
    longer = max(case.width, case.height)
    least = max(SMALLEST_SIDE * longer, SMALLEST_SIDE_IN_LINES * line_width(case.width, case.height))
    if min(x2 - x1, y2 - y1) < least:
        return TOO_SMALL
    mask = box if finding.mask is None else int(np.count_nonzero(finding.mask))
    if granularity == "box":
        if mask < SMALLEST_FILL * box:
            return TOO_LOOSE
        if finding.mask is not None and _main_piece(finding.mask[y1:y2, x1:x2]) < MAIN_PIECE * mask:
            return SEVERAL
        return TOO_LARGE if box > LARGEST_AREA * image else None
    if mask < SMALLEST_AREA * image:
        return TOO_SMALL
    return TOO_LARGE if mask > LARGEST_AREA * image else None


def _main_piece(mask_HW: NDArray[np.bool_]) -> int:
    """Return the pixels of the largest connected piece of a mask that is not empty."""
    pieces_HW, _ = ndimage.label(mask_HW, np.ones((3, 3)))
    return int(np.bincount(pieces_HW.ravel())[1:].max())


def region_name(finding: Finding) -> str:
    """Return what tells a region from the others of its case, whatever order they come in."""
    mask = None if finding.mask is None else encode_mask(finding.mask)
    return sha256_of_text(canonical_json([finding.label.en, finding.box, mask]))
