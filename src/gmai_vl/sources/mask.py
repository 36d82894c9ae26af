"""Pictures with masks: one mask file per picture, or one file per instance."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Finding, Rejected
from gmai_vl.sources.files import file_of, list_files, masks_of, stem_of
from gmai_vl.sources.geometry import area_share, outer_box, side_of
from gmai_vl.sources.images import SUFFIXES, read_image, read_mask
from gmai_vl.sources.labels import distinct, look_up, negative_of, patient_of, term_of
from gmai_vl.sources.spec import MaskSource, VolumeSource
from gmai_vl.vocabulary import Term

MAX_FINDINGS = 2000
"""Of one image; each holds a mask of the image's size."""


class Named(NamedTuple):
    """What a mask value stands for."""

    source_label: str
    term: Term


def list_items(spec: MaskSource, root: Path) -> list[str]:
    """Return the pictures below `root`, sorted. Raises UserError if there are none."""
    return list_files(spec.name, root, spec.images, SUFFIXES)


def read_item(spec: MaskSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one picture and its masks: one case, and what `min_area` dropped from it. Raises BadItem."""
    pixels = read_image(file_of(root, item, spec.images))
    height, width = pixels.shape[:2]
    known = named_values(spec)
    seen = dict.fromkeys(known.values())
    findings: list[Finding] = []
    dropped: list[Named] = []
    is_empty = True
    for mask_item in masks_of(root, item, spec.masks, spec.key):
        mask_HW = read_mask(file_of(root, mask_item, spec.masks))
        if mask_HW.shape != (height, width):
            mask_size = f"{mask_HW.shape[1]} x {mask_HW.shape[0]}"
            raise BadItem(f"is {width} x {height} pixels, but its mask {mask_item} is {mask_size}")
        if spec.threshold is not None or spec.mask_label is not None:
            mask_HW = (mask_HW > (spec.threshold or 0)).astype(np.uint8)
        values = values_in_file(mask_HW, known, spec, mask_item)
        found, small = findings_in(mask_HW, values, spec, mask_item)
        findings += found
        dropped += small
        seen |= dict.fromkeys(values.values())
        is_empty = is_empty and not mask_HW.any()
        if len(findings) > MAX_FINDINGS:
            raise BadItem(f"has more than {MAX_FINDINGS} findings; set `min_area`")
    if not findings and not is_empty:
        reason = "every finding is under `min_area`" if dropped else "holds only labels that the recipe excludes"
        return [Rejected(item=item, outcome="excluded", reason=reason)]
    if is_empty and spec.empty_mask == "quarantine":
        raise BadItem("its mask is empty; `empty_mask: negative` takes it as an image without findings")
    case = Case(
        source=spec.name,
        item=item,
        pixels=pixels,
        modality=spec.modality,
        department=spec.department,
        clinical_task=spec.clinical_task,
        task="seg",
        findings=tuple(findings),
        negative=negative_of(spec.labels) if is_empty else None,
        label_set=distinct(named.term for named in seen),
        patient_id=patient_of(spec.patient, root, item) if spec.patient else None,
        license=spec.license,
        url=spec.url,
    )
    return [case, *count_dropped(item, dropped, spec)]


def named_values(spec: MaskSource | VolumeSource) -> dict[int, Named]:
    """Return mask value -> what the recipe says it stands for; excluded values are left out.

    With a threshold, masks hold 1 above it and 0 below. With `mask_label`, what the recipe names in `labels`, numbered.
    """
    if spec.mask_label is not None:
        wanted = [(name, label) for name, label in spec.labels.items() if label is not None and not label.negative]
        return {number: Named(name, term_of(name, label)) for number, (name, label) in enumerate(wanted, start=1)}
    if isinstance(spec, MaskSource) and spec.threshold is not None:
        (source_label,) = spec.positive_labels()
        label = spec.labels[source_label]
        assert label is not None
        return {1: Named(source_label, term_of(source_label, label))}
    named = {}
    for value, label in spec.mask_labels.items():
        if label is not None and label.en in spec.labels:
            label = spec.labels[label.en]
        if label is not None and not label.negative:
            named[value] = Named(str(value), term_of(str(value), label))
    return named


def values_in_file(
    mask: NDArray[Any], known: dict[int, Named], spec: MaskSource | VolumeSource, mask_item: str
) -> dict[int, Named]:
    """Return what the values of a mask file stand for: as `values_in`, or with `mask_label` as its name tells.

    `mask` then holds 0 and 1. None where the recipe excludes the label. Raises BadItem for a name without a label, or
    with one that the recipe does not know.
    """
    if spec.mask_label is None:
        return values_in(mask, known, spec, mask_item)
    match = re.search(spec.mask_label, stem_of(mask_item))
    if match is None or not match[1]:
        raise BadItem(f"`mask_label` {spec.mask_label!r} is not found in the name of its mask {mask_item}")
    label = look_up(match[1], spec.labels, spec.unknown_labels)
    return {} if label is None else {1: Named(match[1], term_of(match[1].replace("+", " "), label))}


def values_in(
    mask: NDArray[Any], known: dict[int, Named], spec: MaskSource | VolumeSource, place: str
) -> dict[int, Named]:
    """Return the wanted values that occur in a mask of any shape.

    Raises BadItem for a value that the recipe does not know; with `unknown_labels: keep` it stands for its own number.
    """
    values = {}
    for value in _values(mask):
        if value in known:
            values[value] = known[value]
        elif value != 0 and value not in spec.mask_labels:
            if spec.unknown_labels == "quarantine":
                raise BadItem(f"{place}: mask value {value} is not in `mask_labels`")
            values[value] = Named(str(value), Term(str(value)))
    return values


def _values(mask: NDArray[Any]) -> list[int]:
    if mask.dtype == np.uint8:  # as nearly all are, and counting is several times as quick as sorting or hashing
        return np.flatnonzero(np.bincount(mask.reshape(-1), minlength=1)).tolist()
    return [int(value) for value in np.unique(mask)]


def findings_in(
    mask_HW: NDArray[Any], values: dict[int, Named], spec: MaskSource | VolumeSource, place: str
) -> tuple[list[Finding], list[Named]]:
    """Return one finding per value, or per connected part of it; and what those stand for that `min_area` dropped.

    Raises BadItem if there are too many parts.
    """
    findings, dropped = [], []
    for value, named in sorted(values.items()):
        for part_HW in _parts(mask_HW == value, spec, place):
            share = area_share(part_HW)
            if share < spec.min_area:
                dropped.append(named)
                continue
            box = outer_box(part_HW)
            findings.append(
                Finding(
                    label=named.term,
                    source_label=named.source_label,
                    box=box,
                    area_share=share,
                    side=side_of(box, mask_HW.shape[1]),
                    mask=part_HW,
                )
            )
    return findings, dropped


def _parts(inside_HW: NDArray[np.bool_], spec: MaskSource | VolumeSource, place: str) -> list[NDArray[np.bool_]]:
    if not inside_HW.any():
        return []
    if not spec.components:
        return [inside_HW]
    parts_HW, count = ndimage.label(inside_HW, structure=np.ones((3, 3)))
    if count > MAX_FINDINGS:
        raise BadItem(f"{place}: falls into {count} connected parts, more than the limit of {MAX_FINDINGS}")
    return [parts_HW == number for number in range(1, count + 1)]


def count_dropped(item: str, dropped: list[Named], spec: MaskSource | VolumeSource) -> list[Rejected]:
    """Return one record per label that says how many findings `min_area` dropped."""
    return [
        Rejected(
            item=f"{item}@label={named.source_label}",
            outcome="excluded",
            reason=f"{dropped.count(named)} of `{named.term.en}` cover less than `min_area` {spec.min_area:g}",
        )
        for named in dict.fromkeys(dropped)
    ]
