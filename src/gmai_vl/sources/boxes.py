"""What box formats share: boxes in whole pixels, labels in the recipe's words, and the case that comes of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem
from gmai_vl.records import Box, Case, Finding, Rejected
from gmai_vl.sources.fields import Label
from gmai_vl.sources.geometry import area_share, outer_box, side_of
from gmai_vl.sources.labels import look_up, negative_of, patient_of, severity_of, term_of, terms_of
from gmai_vl.sources.spec import BoxedSource

MAX_BOXES = 10_000
"""Of one image."""

_SLACK = 1.0
"""Pixels that a box may reach out of the image and is clipped by: tools round outwards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotated:
    """One thing as an annotation file has it."""

    source_label: str
    box: Box
    mask: NDArray[np.bool_] | None = None
    """[H, W]; `box` is then its outer box."""


def whole_box(x1: float, y1: float, x2: float, y2: float, width: int, height: int) -> Box:
    """Return the smallest half-open box of whole pixels about two corners given in fractions of pixels.

    Raises BadItem if it has no area, is not finite, or reaches out of the image by more than one pixel.
    """
    told = f"box [{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise BadItem(f"{told} is not finite")
    if x1 >= x2 or y1 >= y2:
        raise BadItem(f"{told} has no area")
    if min(x1, y1) < -_SLACK or x2 > width + _SLACK or y2 > height + _SLACK:
        raise BadItem(f"{told} reaches out of the image of {width} x {height} pixels")
    box = max(0, math.floor(x1)), max(0, math.floor(y1)), min(width, math.ceil(x2)), min(height, math.ceil(y2))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise BadItem(f"{told} lies outside the image of {width} x {height} pixels")
    return box


def masked(source_label: str, mask_HW: NDArray[np.bool_]) -> Annotated:
    """Return the annotation of a mask. Raises BadItem if the mask is empty."""
    if not mask_HW.any():
        raise BadItem(f"a mask of `{source_label}` is empty")
    return Annotated(source_label=source_label, box=outer_box(mask_HW), mask=mask_HW)


def boxed_case(
    spec: BoxedSource,
    root: Path,
    item: str,
    pixels: NDArray[np.uint8],
    annotated: Sequence[Annotated],
    names: Iterable[str],
) -> list[Case | Rejected]:
    """Return the case of an image and its annotations, and a record for each label that was left out, with the number.

    `names` are the labels that an annotator could have given. Raises BadItem for a label that the recipe does not
    know and wants in the quarantine, for too many boxes, and for none where `no_boxes` says so.
    """
    if len(annotated) > MAX_BOXES:
        raise BadItem(f"has {len(annotated)} boxes, more than the limit of {MAX_BOXES}")
    findings: list[Finding] = []
    left_out: list[tuple[str, str]] = []
    for one in annotated:
        label = look_up(one.source_label, spec.labels, spec.unknown_labels)
        finding = _finding(one, label, pixels.shape[0], pixels.shape[1]) if label else None
        if finding is None:
            left_out.append((one.source_label, "the recipe excludes the label"))
        elif (finding.area_share or 0.0) < spec.min_area:
            left_out.append((one.source_label, f"they cover less than `min_area` {spec.min_area:g}"))
        else:
            findings.append(finding)
    if not findings and annotated:
        reason = "every box is under `min_area` or bears a label that the recipe excludes"
        return [Rejected(item=item, outcome="excluded", reason=reason)]
    if not annotated and spec.no_boxes == "quarantine":
        raise BadItem("has no boxes; `no_boxes: negative` takes it as an image without findings")
    case = Case(
        source=spec.name,
        item=item,
        pixels=pixels,
        modality=spec.modality,
        department=spec.department,
        clinical_task=spec.clinical_task,
        task="seg" if any(finding.mask is not None for finding in findings) else "det",
        findings=tuple(findings),
        negative=None if findings else negative_of(spec.labels),
        label_set=terms_of((*names, *spec.labels), spec.labels, spec.unknown_labels),
        severity=severity_of(spec.severity, spec.labels),
        patient_id=patient_of(spec.patient, root, item) if spec.patient else None,
        license=spec.license,
        url=spec.url,
    )
    return [case, *_count_left_out(item, left_out)]


def _finding(one: Annotated, label: Label, height: int, width: int) -> Finding:
    if label.negative:
        raise BadItem(f"label `{one.source_label}` is `negative` in the recipe, but it has a box")
    x1, y1, x2, y2 = one.box
    return Finding(
        label=term_of(one.source_label, label),
        source_label=one.source_label,
        box=one.box,
        area_share=(x2 - x1) * (y2 - y1) / (width * height) if one.mask is None else area_share(one.mask),
        side=side_of(one.box, width),
        mask=one.mask,
    )


def _count_left_out(item: str, left_out: list[tuple[str, str]]) -> list[Rejected]:
    return [
        Rejected(
            item=f"{item}@label={name}",
            outcome="excluded",
            reason=f"{left_out.count((name, why))} of `{name}`: {why}",
        )
        for name, why in dict.fromkeys(left_out)
    ]
