"""Volumes (NIfTI, MetaImage, NRRD) with label volumes, cut into the slices that show most of the labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Rejected
from gmai_vl.sources.files import list_files, masks_of
from gmai_vl.sources.geometry import (
    AXIS_OF,
    is_oblique,
    percentile_window,
    shown_slice,
    shown_spacing,
    to_ras,
    to_uint8,
)
from gmai_vl.sources.grids import SUFFIXES, Grid, grey_values, label_values, open_grid, slabs, slow_axis
from gmai_vl.sources.labels import distinct, patient_of
from gmai_vl.sources.mask import Named, count_dropped, findings_in, named_values, values_in, values_in_file
from gmai_vl.sources.spec import VolumeSource
from gmai_vl.vocabulary import Term

MAX_LAYER_BYTES = 2**30
"""Of all layers of one volume."""

Spacing = tuple[float, float, float]


class Layer(NamedTuple):
    """Labels of which no two lie on one voxel."""

    labels_XYZ: NDArray[Any]
    """Integers; in RAS+ as the image is."""

    values: dict[int, Named]
    """The wanted ones, and what they stand for."""


def list_items(spec: VolumeSource, root: Path) -> list[str]:
    """Return the volumes below `root`, sorted. Raises UserError if there are none."""
    return list_files(spec.name, root, spec.images, SUFFIXES)


def read_item(spec: VolumeSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one volume: a case per chosen slice, and what `min_area` dropped. Raises BadItem."""
    mask_items = masks_of(root, item, spec.masks, spec.key)
    if len(mask_items) > 1 and spec.mask_label is None:
        raise BadItem(f"{len(mask_items)} label volumes match `masks`; without `mask_label` a volume has one")
    image = open_grid(root, item, spec.images)
    masks = [open_grid(root, mask_item, spec.masks) for mask_item in mask_items]
    for mask in masks:
        if image.shape != mask.shape:
            raise BadItem(f"is {image.size} voxels, but its label volume {mask.item} is {mask.size}")
        if not mask.lies_on(image):
            raise BadItem(f"its label volume {mask.item} lies elsewhere in space (the affines differ)")
    # The labels first: they are small once read, and what they are read from is then gone.
    layers = _named_by_files(spec, masks) if spec.mask_label else [layer_of(spec, item, label_values(masks[0]))]
    turned = [Layer(to_ras(layer.labels_XYZ, image.affine)[0], layer.values) for layer in layers]
    image_XYZ, spacing = to_ras(grey_values(image), image.affine)
    patient_id = patient_of(spec.patient, root, item) if spec.patient else item
    return cut(spec, item, image_XYZ, turned, spacing, patient_id=patient_id, oblique=is_oblique(image.affine))


def layer_of(spec: VolumeSource, item: str, labels: NDArray[Any]) -> Layer:
    """Return a label volume whose values the recipe names. Raises BadItem for one that it does not know."""
    there = np.unique(np.concatenate([np.unique(slab) for slab in slabs(labels)]))
    return Layer(labels, values_in(there, named_values(spec), spec, item))


def _named_by_files(spec: VolumeSource, masks: Sequence[Grid]) -> list[Layer]:
    """Put label volumes of one structure each into as few layers as their overlaps allow.

    Raises BadItem for a file whose name tells no known label, and for layers without end.
    """
    layers: list[Layer] = []
    for number, mask in enumerate(masks, start=1):
        named = values_in_file(np.empty(0), {}, spec, mask.item).get(1)
        if named is None:  # the recipe excludes it
            continue
        inside = label_values(mask) > 0
        free = (layer for layer in layers if not (inside & (layer.labels_XYZ != 0)).any())
        layer = next(free, None)
        if layer is None:
            kind = np.min_scalar_type(len(masks))
            if (len(layers) + 1) * inside.size * kind.itemsize > MAX_LAYER_BYTES:
                raise BadItem(f"its label volumes lie over each other more than {len(layers)} times in one place")
            layer = Layer(np.zeros_like(inside, kind), {})
            layers.append(layer)
        layer.labels_XYZ[inside] = number
        layer.values[number] = named
    return layers


def cut(
    spec: VolumeSource,
    item: str,
    image_XYZ: NDArray[Any],
    layers: Sequence[Layer],
    spacing: Spacing,
    *,
    patient_id: str,
    body_part: Term | None = None,
    oblique: bool = False,
) -> list[Case | Rejected]:
    """Return a case per chosen slice of a RAS+ volume; `@axial=12` counts along the RAS+ axis.

    Slices of an `oblique` volume are named after the plane nearest to them, but the case has none. Raises BadItem if
    the volume holds none of the labels.
    """
    named = [*named_values(spec).values(), *(named for layer in layers for named in layer.values.values())]
    label_set = distinct(each.term for each in named)
    areas = _areas(layers, image_XYZ.shape)
    if not areas[0].any():
        raise BadItem("its label volume holds none of the labels")
    low, high = spec.window or percentile_window(image_XYZ, spec.percentiles)
    results: list[Case | Rejected] = []
    for plane in spec.axes:
        for index in _largest(areas[AXIS_OF[plane]], spec.slices_per_axis):
            name = f"{item}@{plane}={index}"
            found = [
                findings_in(shown_slice(layer.labels_XYZ, plane, index), layer.values, spec, name) for layer in layers
            ]
            findings = tuple(finding for part, _ in found for finding in part)
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
                    findings=findings,
                    label_set=label_set,
                    patient_id=patient_id,
                    plane=None if oblique else plane,
                    body_part=body_part,
                    spacing_mm=shown_spacing(spacing, plane),
                    license=spec.license,
                    url=spec.url,
                )
            )
            results += count_dropped(name, [named for _, dropped in found for named in dropped], spec)
    return results


def _areas(layers: Sequence[Layer], shape: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Return, for each axis, the number of voxels with a wanted label in every slice across it."""
    areas = [np.zeros(length, np.int64) for length in shape]
    if not layers:
        return areas
    # In the order of memory, so that no map of the whole volume is needed.
    axis = slow_axis(layers[0].labels_XYZ)
    first, second = (other for other in range(3) if other != axis)
    wanted = [list(layer.values) for layer in layers]
    for index, parts in enumerate(zip(*(slabs(layer.labels_XYZ, axis) for layer in layers), strict=True)):
        inside = np.any([np.isin(part, values) for part, values in zip(parts, wanted, strict=True)], axis=0)
        areas[axis][index] = np.count_nonzero(inside)
        areas[first] += np.count_nonzero(inside, axis=1)
        areas[second] += np.count_nonzero(inside, axis=0)
    return areas


def _largest(areas: NDArray[np.int64], count: int) -> list[int]:
    """Return, in rising order, the slices of largest labelled area that have any; ties go to the lower index."""
    by_area = np.argsort(-areas, kind="stable")[:count]
    return sorted(int(index) for index in by_area if areas[index] > 0)


def load_volume(path: Path) -> tuple[NDArray[Any], Spacing]:
    """Return a volume [X, Y, Z] in RAS+ and its spacing in mm. Raises BadItem."""
    grid = open_grid(path.parent, path.name, path.name)
    return to_ras(grey_values(grid), grid.affine)
