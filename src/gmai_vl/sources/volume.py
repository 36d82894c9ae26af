"""NIfTI volumes with label volumes, cut into the slices that show most of the labels."""

import itertools
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Rejected
from gmai_vl.sources.files import file_of, list_files, masks_of
from gmai_vl.sources.geometry import AXIS_OF, percentile_window, shown_slice, shown_spacing, to_ras, to_uint8
from gmai_vl.sources.labels import distinct, patient_of
from gmai_vl.sources.mask import count_dropped, findings_in, named_values, values_in
from gmai_vl.sources.spec import VolumeSource
from gmai_vl.vocabulary import Term

SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 2**28
"""268 million, 1 GiB in memory: a CT of 512 x 512 x 1024."""

Spacing = tuple[float, float, float]


def list_items(spec: VolumeSource, root: Path) -> list[str]:
    """Return the volumes below `root`, sorted. Raises UserError if there are none."""
    return list_files(spec.name, root, spec.images, SUFFIXES)


def read_item(spec: VolumeSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one volume: a case per chosen slice, and what `min_area` dropped. Raises BadItem."""
    mask_items = masks_of(root, item, spec.masks, spec.key)
    if len(mask_items) > 1:
        raise BadItem(f"{len(mask_items)} label volumes match `masks`; a volume has one")
    image = _open(file_of(root, item, spec.images), item)
    mask = _open(file_of(root, mask_items[0], spec.masks), mask_items[0])
    if image.shape[:3] != mask.shape[:3]:
        raise BadItem(f"is {_size(image)} voxels, but its label volume {mask_items[0]} is {_size(mask)}")
    if not _same_place(image, mask):
        raise BadItem(f"its label volume {mask_items[0]} lies elsewhere in space (the affines differ)")
    image_XYZ, spacing = to_ras(_values(image, item), image.affine)
    mask_XYZ, _ = to_ras(_integers(mask, mask_items[0]), image.affine)
    patient_id = patient_of(spec.patient, root, item) if spec.patient else item
    return cut(spec, item, image_XYZ, mask_XYZ, spacing, patient_id=patient_id)


def cut(
    spec: VolumeSource,
    item: str,
    image_XYZ: NDArray[Any],
    mask_XYZ: NDArray[Any],
    spacing: Spacing,
    *,
    patient_id: str,
    body_part: Term | None = None,
) -> list[Case | Rejected]:
    """Return a case per chosen slice of a RAS+ volume; `@axial=12` counts along the RAS+ axis.

    Raises BadItem if the volume holds none of the labels or an unknown one.
    """
    known = named_values(spec)
    values = values_in(mask_XYZ, known, spec, item)
    if not values:
        raise BadItem("its label volume holds none of the labels")
    label_set = distinct(named.term for named in (known | values).values())
    labelled_XYZ = np.isin(mask_XYZ, list(values))
    low, high = spec.window or percentile_window(image_XYZ, spec.percentiles)
    results: list[Case | Rejected] = []
    for plane in spec.axes:
        for index in _largest(labelled_XYZ, AXIS_OF[plane], spec.slices_per_axis):
            name = f"{item}@{plane}={index}"
            findings, dropped = findings_in(shown_slice(mask_XYZ, plane, index), values, spec, name)
            if not findings:
                results.append(Rejected(item=name, outcome="excluded", reason="every finding is under `min_area`"))
                continue
            results.append(
                Case(
                    source=spec.name,
                    item=name,
                    pixels=to_uint8(shown_slice(image_XYZ, plane, index), low, high),
                    modality=spec.modality,
                    department=spec.department,
                    clinical_task=spec.clinical_task,
                    task="seg",
                    dimension="3d",
                    findings=tuple(findings),
                    label_set=label_set,
                    patient_id=patient_id,
                    plane=plane,
                    body_part=body_part,
                    spacing_mm=shown_spacing(spacing, plane),
                    license=spec.license,
                    url=spec.url,
                )
            )
            results += count_dropped(name, dropped, spec)
    return results


def _largest(labelled_XYZ: NDArray[np.bool_], axis: int, count: int) -> list[int]:
    """Return, in rising order, the slices of largest labelled area that have any; ties go to the lower index."""
    areas = np.count_nonzero(labelled_XYZ, axis=tuple(each for each in range(3) if each != axis))
    by_area = np.argsort(-areas, kind="stable")[:count]
    return sorted(int(index) for index in by_area if areas[index] > 0)


def load_volume(path: Path) -> tuple[NDArray[np.float32], Spacing]:
    """Return a volume [X, Y, Z] in RAS+ and its spacing in mm. Raises BadItem."""
    image = _open(path, path.name)
    return to_ras(_values(image, path.name), image.affine)


FAULTS = (OSError, EOFError, ValueError, OverflowError, zlib.error, ImageFileError, HeaderDataError)
"""What nibabel raises on damaged files."""


def _open(path: Path, item: str) -> Any:
    """Read the header and check it before any voxel is read. Returns nibabel's image, of three axes."""
    if not path.name.lower().endswith(SUFFIXES):
        raise BadItem(f"{item}: is no NIfTI file (.nii, .nii.gz)")
    try:
        image = nibabel.load(path)
    except FAULTS as error:
        raise BadItem(f"{item}: has no readable NIfTI header: {_fault(error, path)}") from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise BadItem(f"{item}: is no NIfTI file by its content")
    if min(image.shape, default=0) < 1 or len(image.shape) < 3 or any(length != 1 for length in image.shape[3:]):
        raise BadItem(f"{item}: has the shape {_size(image)}; a volume has three axes")
    if math.prod(image.shape) > MAX_VOXELS:
        raise BadItem(f"{item}: {_size(image)} voxels are more than the limit of {MAX_VOXELS}")
    if not (image.header["sform_code"] or image.header["qform_code"]):
        raise BadItem(f"{item}: does not tell its orientation (sform and qform codes are 0)")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine)) < 1e-9:
        raise BadItem(f"{item}: its affine is not finite or flat")
    return image


def _values(image: Any, item: str) -> NDArray[np.float32]:
    values = np.asarray(_stored(image, item), dtype=np.float32)
    if not np.isfinite(values).all():
        raise BadItem(f"{item}: holds values that are not finite")
    return values


def _integers(image: Any, item: str) -> NDArray[Any]:
    values = _stored(image, item)
    if np.issubdtype(values.dtype, np.integer):
        return values
    if not np.isfinite(values).all() or np.abs(values).max() >= 2**31 or (values != np.rint(values)).any():
        raise BadItem(f"{item}: holds values that are no integers, so it is no label volume")
    return values.astype(np.int32)


def _stored(image: Any, item: str) -> NDArray[Any]:
    """Read the voxels, scaled as the header says."""
    try:
        values = np.asanyarray(image.dataobj)
    except FAULTS as error:
        raise BadItem(f"{item}: is cut short or damaged: {_fault(error, Path(image.get_filename() or item))}") from None
    if values.dtype.kind not in "iuf":
        raise BadItem(f"{item}: holds values of type {values.dtype}; a volume holds real numbers")
    return values.reshape(image.shape[:3])


def _same_place(image: Any, mask: Any) -> bool:
    """Say whether all corners of two grids of equal shape lie within half a voxel of each other."""
    corners = np.array(list(itertools.product(*((0, length - 1) for length in image.shape[:3]))))
    gaps = np.linalg.norm(apply_affine(image.affine - mask.affine, corners), axis=1)
    return bool(gaps.max() <= 0.5 * min(voxel_sizes(image.affine)))


def _size(image: Any) -> str:
    return " x ".join(str(length) for length in image.shape)


def _fault(error: Exception, path: Path) -> str:
    """Return what went wrong, in one line and without the folders of this machine."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).replace(str(path), path.name).split())
