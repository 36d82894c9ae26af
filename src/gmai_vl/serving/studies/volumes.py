"""Volumes in memory: three planes of one RAS+ array; and those that NIfTI, MetaImage and NRRD files hold."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem, UserError
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.studies.content import holds_real_numbers
from gmai_vl.serving.studies.series import Note, Series, Stack
from gmai_vl.serving.studies.windows import AUTO, PRESETS, can_be_hounsfield
from gmai_vl.sources.geometry import AXIS_OF, percentile_window, shown_slice, shown_spacing, to_ras, to_uint8
from gmai_vl.sources.grids import NIFTI, grey_values, open_grid, slabs

Bounds = Callable[[str, int], tuple[float, float]]
"""Gives the values that are black and white in (plane, slice)."""

MOST_BYTES_A_VOXEL = 4
"""As a volume is kept."""


def volume_series(
    voxels_XYZ: NDArray[Any],
    spacing: tuple[float, float, float],
    windows: Mapping[str, Bounds],
    *,
    modality: str | None = None,
    notes: Sequence[Note] = (),
) -> Series:
    """Return a RAS+ volume as a series. The default window is the first of `windows`."""

    def shown(plane: str, index: int, window: str) -> NDArray[np.uint8]:
        low, high = windows[window](plane, index)
        return to_uint8(shown_slice(voxels_XYZ, plane, index), low, high)  # type: ignore[arg-type]

    stacks = []
    for plane, axis in AXIS_OF.items():
        across, down = (length for other, length in enumerate(voxels_XYZ.shape) if other != axis)
        pitch = shown_spacing(spacing, plane)
        stacks.append(
            Stack(name=plane, slices=voxels_XYZ.shape[axis], width=across, height=down, pixel_mm=pitch),
        )
    return Series(
        kind="volume",
        modality=modality,
        planes=tuple(stacks),
        windows=tuple(windows),
        notes=tuple(notes),
        nbytes=voxels_XYZ.nbytes,
        shown=shown,
    )


def read_volume(path: Path, limits: Limits, room: int) -> Series:
    """Read a volume file whose suffix is that of its content; `room` is the memory that it may take.

    The file is not needed afterwards. Raises BadItem with a reason that quotes nothing of the file.
    """
    is_nifti = path.name.endswith(NIFTI)
    if is_nifti and not holds_real_numbers(path):
        raise BadItem("holds voxels that are no real numbers")
    try:
        grid = open_grid(path.parent, path.name, path.name)
        check_voxels(grid.shape, limits, room)
        values = grey_values(grid)
    except BadItem as bad:
        raise BadItem(_reason(str(bad), path.name) if is_nifti else "cannot be read as a volume") from None
    except UserError:  # SimpleITK is not installed
        raise BadItem("is a volume of a format that this server does not read") from None
    auto = percentile_window(values)
    presets = PRESETS if can_be_hounsfield(values) else {}
    voxels_XYZ, spacing = to_ras(compact(values), grid.affine)
    windows = {AUTO: always(auto)} | {name: always(bounds) for name, bounds in presets.items()}
    return volume_series(voxels_XYZ, spacing, windows)


def check_voxels(shape: Sequence[int], limits: Limits, room: int) -> None:
    """Raise BadItem for a volume beyond the limits, told from its header."""
    voxels = int(np.prod([int(length) for length in shape], dtype=object))
    if voxels > limits.voxels:
        raise BadItem(f"has {voxels} voxels; the limit of a series is {limits.voxels}")
    if voxels * MOST_BYTES_A_VOXEL > room:
        raise BadItem("does not fit into the memory of a study beside the rest")


def always(bounds: tuple[float, float]) -> Bounds:
    """Return a window that is the same for all slices."""
    return lambda _plane, _index: bounds


def compact(values: NDArray[Any]) -> NDArray[Any]:
    """Return the same values in two bytes each where they fit, else as float32, in the same order in memory."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        return values
    return values.astype(np.int16 if fits_int16(values) else np.float32, order="K", copy=False)


def fits_int16(values: NDArray[Any]) -> bool:
    """Say whether all values are integers of two bytes."""
    info = np.iinfo(np.int16)
    if values.min() < info.min or values.max() > info.max:
        return False
    return values.dtype.kind in "iu" or all((slab == np.rint(slab)).all() for slab in slabs(values))


def _reason(text: str, name: str) -> str:
    """Return what is wrong, without the file's name and without what a library says about its content."""
    return text.removeprefix(f"{name}: ").partition(": ")[0]
