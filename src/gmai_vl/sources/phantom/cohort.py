"""The phantom cohort as a source: patients are items, drawn anew whenever they are read."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from gmai_vl.foundation import UserError, nearest, stable_fraction, stable_rng
from gmai_vl.records import Case, Finding, Plane, Rejected
from gmai_vl.sources.geometry import AXIS_OF, area_share, outer_box, shown_slice, shown_spacing, side_of, to_uint8
from gmai_vl.sources.phantom.abdomen import ABDOMEN
from gmai_vl.sources.phantom.brain import BRAIN
from gmai_vl.sources.phantom.colour import COLOUR_FAMILIES
from gmai_vl.sources.phantom.grey import GREY_FAMILIES
from gmai_vl.sources.phantom.study import Family, Study
from gmai_vl.sources.phantom.tissue import TISSUE
from gmai_vl.sources.spec import PhantomSource
from gmai_vl.vocabulary import term

FAMILIES = {family.name: family for family in (*GREY_FAMILIES, ABDOMEN, BRAIN, *COLOUR_FAMILIES, TISSUE)}
"""All families by name."""

NO_FINDING = term("no finding")

SMALLEST_CUT = 0.004
"""Slices are chosen where no lesion covers less of the image than this."""

SMALLEST_ORGAN = 0.002
"""An organ cut smaller than this share of the image is neither said to be there nor not to be."""

SLICES_APART = 3
"""Neighbouring slices are nearly the same image."""

EVERYWHERE = np.ones((3, 3), bool)
"""Pixels that touch at a corner belong together."""


def list_items(spec: PhantomSource, root: Path) -> list[str]:
    """Return `family/p0007` for every patient, sorted. Raises UserError if a family is unknown."""
    return sorted(f"{name}/p{patient:04d}" for name in _families(spec) for patient in range(spec.patients))


def read_item(spec: PhantomSource, root: Path, item: str) -> list[Case | Rejected]:
    """Draw one patient: one case, or one for each slice of a volume."""
    return [case for case, _ in annotated_cases(spec, item)]


def annotated_cases(spec: PhantomSource, item: str) -> list[tuple[Case, NDArray[np.uint8]]]:
    """Return the cases of one patient, each with its label map [H, W]: 0, or 1 + index into the family's terms."""
    family, study = draw_study(spec, item)
    if not family.volume:
        return [(_case(spec, family, item, study, study.image.astype(np.uint8), study.labels), study.labels)]
    assert study.lesion_site is not None and study.spacing_mm is not None
    cases = []
    for plane in get_args(Plane):
        pitch = shown_spacing(study.spacing_mm, plane)
        for index in _slices(study.lesion_site, plane, spec.slices_per_axis):
            values, per_pixel = _fitted(shown_slice(study.image, plane, index), pitch, spec.size, order=1, edge=-1000)
            labels, _ = _fitted(shown_slice(study.labels, plane, index), pitch, spec.size, order=0, edge=0)
            name = f"{item}@{plane}={index}"
            pixels = to_uint8(values, *study.window)
            cases.append((_case(spec, family, name, study, pixels, labels, plane, per_pixel), labels))
    return cases


def draw_study(spec: PhantomSource, item: str) -> tuple[Family, Study]:
    """Draw the study of one patient; it depends on seed, family and patient only, and if it is a picture on `size`."""
    name, _, patient = item.partition("/p")
    family = FAMILIES[name]
    rng = np.random.default_rng(stable_rng("phantom", spec.seed, name, int(patient)).getrandbits(128))
    kind, healthy = _lot(spec.seed, family, int(patient), rng)
    return family, family.draw(rng, kind, healthy, spec.size)


def patient_id(item: str) -> str:
    """Return the patient of an item, `chest-x-ray-p0007`."""
    return item.partition("@")[0].replace("/", "-")


def _families(spec: PhantomSource) -> list[str]:
    for name in spec.families:
        if name not in FAMILIES:
            raise UserError(f"source `{spec.name}`: families: `{name}` is no phantom; {nearest(name, FAMILIES)}")
    return list(dict.fromkeys(spec.families)) or list(FAMILIES)


def _lot(seed: int, family: Family, patient: int, rng: Generator) -> tuple[int, bool]:
    """Choose the lesion kind and whether the patient is healthy, so that small cohorts have their share of all."""
    # Multiples of the golden ratio spread evenly over 0-1, however many there are.
    lot = (stable_fraction("phantom", seed, family.name) + patient * 0.6180339887498949) % 1
    if lot < family.healthy_share:
        return int(rng.integers(len(family.lesions))), True
    return int((lot - family.healthy_share) / (1 - family.healthy_share) * len(family.lesions)), False


def _case(
    spec: PhantomSource, family: Family, item: str, study: Study, pixels: NDArray[np.uint8], labels: NDArray[np.uint8],
    plane: Plane | None = None, spacing_mm: tuple[float, float] | None = None,
) -> Case:  # fmt: skip
    lesions = [
        _finding(family, value, instances == number)
        for value in range(1, 1 + len(family.lesions))
        for instances, count in [ndimage.label(labels == value, EVERYWHERE)]
        for number in range(1, count + 1)
    ]
    shares = np.bincount(labels.ravel(), minlength=1 + len(family.terms)) / labels.size
    organs = [value for value in range(1 + len(family.lesions), 1 + len(family.terms)) if shares[value] > 0]
    clear = [value for value in organs if shares[value] >= SMALLEST_ORGAN]
    doubtful = {family.terms[value - 1] for value in organs if value not in clear}
    return Case(
        source=spec.name,
        item=item,
        pixels=pixels,
        modality=spec.modality or family.modality,
        department=spec.department or family.department,
        clinical_task=spec.clinical_task or family.clinical_task,
        task="seg",
        dimension="3d" if family.volume else "2d",
        findings=(*lesions, *(_finding(family, value, labels == value) for value in clear)),
        negative=NO_FINDING if study.healthy else None,
        label_set=tuple(label for label in family.terms if label not in doubtful),
        patient_id=patient_id(item),
        plane=plane,
        body_part=family.body_part,
        body_parts=tuple(dict.fromkeys(FAMILIES[name].body_part for name in _families(spec))),
        spacing_mm=spacing_mm,
        license=spec.license,
        url=spec.url,
    )


def _finding(family: Family, value: int, mask_HW: NDArray[np.bool_]) -> Finding:
    label, box = family.terms[value - 1], outer_box(mask_HW)
    return Finding(
        label=label, source_label=label.en, box=box, area_share=area_share(mask_HW),
        side=side_of(box, mask_HW.shape[1]), mask=mask_HW,
    )  # fmt: skip


def _slices(site_XYZ: NDArray[np.bool_], plane: Plane, count: int) -> list[int]:
    """Return indices of up to `count` slices through the site of the lesion, not neighbours, largest area first.

    Slices that graze a lesion come last: a sliver is no fair question.
    """
    axis = AXIS_OF[plane]
    across = [n for other, n in enumerate(site_XYZ.shape) if other != axis]
    areas = site_XYZ.sum(axis=tuple(other for other in range(3) if other != axis))

    def grazes(index: int) -> bool:
        pieces, _ = ndimage.label(np.take(site_XYZ, index, axis), EVERYWHERE)
        return bool(np.bincount(pieces.ravel())[1:].min() < SMALLEST_CUT * max(across) ** 2)

    chosen: list[int] = []
    for index in sorted(np.flatnonzero(areas).tolist(), key=lambda index: (grazes(index), -areas[index], index)):
        if all(abs(index - other) >= SLICES_APART for other in chosen) and not (chosen and grazes(index)):
            chosen.append(index)
    return sorted(chosen[:count])


def _fitted(
    slice_HW: NDArray[Any], pitch: tuple[float, float], size: int, *, order: int, edge: int
) -> tuple[NDArray[Any], tuple[float, float]]:
    """Scale a slice to a square image of `size`, padded evenly; give also its pixel pitch (row, column) in mm."""
    extents = [n * mm for n, mm in zip(slice_HW.shape, pitch, strict=True)]
    step = max(extents) / size
    scales = [step / mm for mm in pitch]
    offsets = [(0.5 * step - (max(extents) - extent) / 2) / mm - 0.5 for extent, mm in zip(extents, pitch, strict=True)]
    output = np.float32 if order else slice_HW.dtype
    fitted = ndimage.affine_transform(
        slice_HW, scales, offsets, (size, size), output, order=order, mode="grid-constant", cval=edge
    )
    return fitted, (step, step)
