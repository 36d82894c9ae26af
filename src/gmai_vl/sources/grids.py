"""Volume files: their grid in space, checked before any voxel is read, and their voxels in little memory."""

import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem
from gmai_vl.sources import itk
from gmai_vl.sources.files import file_of

NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*NIFTI, *itk.SUFFIXES)
MAX_VOXELS = 2**28
"""268 million, half a GiB as stored by a CT: 512 x 512 x 1024."""

FAULTS = (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, ImageFileError, HeaderDataError)
"""What nibabel raises on damaged files."""


@dataclass(frozen=True, slots=True)
class Grid:
    """An opened volume file."""

    item: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    """[4, 4], from voxel indices to RAS+ mm."""

    stored: Callable[[], NDArray[Any]]
    """Reads the voxels [X, Y, Z] as the file stores them."""

    scale: tuple[np.float64, np.float64] | None = None
    """(slope, intercept): a stored number stands for slope * number + intercept. None: for itself."""

    @property
    def size(self) -> str:
        """The shape in words."""
        return " x ".join(map(str, self.shape))

    def lies_on(self, other: "Grid") -> bool:
        """Say whether all corners of two grids of equal shape lie within half a voxel of each other."""
        corners = np.array(list(itertools.product(*((0, length - 1) for length in self.shape))))
        gaps = np.linalg.norm(apply_affine(self.affine - other.affine, corners), axis=1)
        return bool(gaps.max() <= 0.5 * min(voxel_sizes(other.affine)))


def open_grid(root: Path, item: str, pattern: str) -> Grid:
    """Read the header of a file that the recipe's `pattern` finds, and check it before any voxel is read.

    Raises BadItem for what is damaged, too large, not of three axes, without an orientation, or elsewhere than below
    `root`; UserError where a package is not installed.
    """
    path = file_of(root, item, pattern)
    if path.name.lower().endswith(NIFTI):
        grid = _open_nifti(path, item)
    elif path.name.lower().endswith(itk.SUFFIXES):
        grid = _open_itk(root, path, item, pattern)
    else:
        raise BadItem(f"{item}: is no volume file ({', '.join(SUFFIXES)})")
    if not np.isfinite(grid.affine).all() or abs(np.linalg.det(grid.affine)) < 1e-9:
        raise BadItem(f"{item}: its affine is not finite or flat")
    return grid


def _open_nifti(path: Path, item: str) -> Grid:
    try:
        image = nibabel.load(path, mmap=False)
    except FAULTS as error:
        raise BadItem(f"{item}: has no readable NIfTI header: {_fault(error, path)}") from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise BadItem(f"{item}: is no NIfTI file by its content")
    shape = _checked_shape(image.shape, item)
    if not (image.header["sform_code"] or image.header["qform_code"]):
        raise BadItem(f"{item}: does not tell its orientation (sform and qform codes are 0)")

    def stored() -> NDArray[Any]:
        try:
            return np.asanyarray(image.dataobj.get_unscaled()).reshape(shape)
        except FAULTS as error:
            raise BadItem(f"{item}: is cut short or damaged: {_fault(error, path)}") from None

    scale = (np.float64(image.dataobj.slope), np.float64(image.dataobj.inter))
    return Grid(item, shape, image.affine, stored, None if scale == (1, 0) else scale)


def _open_itk(root: Path, path: Path, item: str, pattern: str) -> Grid:
    data_item = itk.data_file_of(path, item)
    if data_item is not None:
        file_of(root, data_item, pattern)
    size, affine = itk.read_header(path, item)
    return Grid(item, _checked_shape(size, item), affine, lambda: itk.read_voxels(path, item))


def _checked_shape(shape: tuple[int, ...], item: str) -> tuple[int, int, int]:
    size = " x ".join(map(str, shape))
    if min(shape, default=0) < 1 or len(shape) < 3 or any(length != 1 for length in shape[3:]):
        raise BadItem(f"{item}: has the shape {size}; a volume has three axes")
    if math.prod(shape) > MAX_VOXELS:
        raise BadItem(f"{item}: {size} voxels are more than the limit of {MAX_VOXELS}")
    return shape[0], shape[1], shape[2]


def grey_values(grid: Grid) -> NDArray[Any]:
    """Return what the voxels [X, Y, Z] stand for: integers as stored, or float32. Raises BadItem if not all finite."""
    stored = _real_numbers(grid)
    if stored.dtype.kind in "iu" and grid.scale is None:
        return stored
    values = _like(stored, np.dtype(np.float32))
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is not finite there
        for before, after in zip(slabs(stored), slabs(values), strict=True):
            after[...] = _scaled(before, grid)
            if not np.isfinite(after).all():
                raise BadItem(f"{grid.item}: holds values that are not finite")
    return values


def label_values(grid: Grid) -> NDArray[Any]:
    """Return the voxels [X, Y, Z] as integers of as few bytes as they need. Raises BadItem for fractions."""
    stored = _real_numbers(grid)
    lowest, highest = 0, 0
    for slab in slabs(stored):
        values = _scaled(slab, grid)
        if values.dtype.kind == "f" and (not np.isfinite(values).all() or (values != np.rint(values)).any()):
            raise BadItem(f"{grid.item}: holds values that are no integers, so it is no label volume")
        lowest, highest = min(lowest, int(values.min())), max(highest, int(values.max()))
    if max(-lowest, highest) >= 2**31:
        raise BadItem(
            f"{grid.item}: holds the value {highest if highest >= 2**31 else lowest}, so it is no label volume"
        )
    kind = np.result_type(np.min_scalar_type(lowest), np.min_scalar_type(highest))
    if stored.dtype == kind and grid.scale is None:
        return stored
    labels = _like(stored, kind)
    for before, after in zip(slabs(stored), slabs(labels), strict=True):
        after[...] = _scaled(before, grid)
    return labels


def _like(stored: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """Return room for as many numbers, in the same order in memory."""
    return np.empty(stored.shape, kind, order="F" if stored.flags.f_contiguous else "C")


def _scaled(slab: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Return what stored numbers stand for; in double precision where they are scaled, as nibabel does."""
    return slab if grid.scale is None else slab * grid.scale[0] + grid.scale[1]


def _real_numbers(grid: Grid) -> NDArray[Any]:
    stored = grid.stored()
    if stored.dtype.kind not in "iuf":
        raise BadItem(f"{grid.item}: holds values of type {stored.dtype}; a volume holds real numbers")
    if stored.shape != grid.shape:
        raise BadItem(f"{grid.item}: holds other voxels than its header says")
    return stored


def slabs(volume: NDArray[Any], axis: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield the slices of a volume, as views, across `axis`; by default in the order of memory."""
    axis = slow_axis(volume) if axis is None else axis
    for index in range(volume.shape[axis]):
        yield volume[(slice(None),) * axis + (index,)]


def slow_axis(volume: NDArray[Any]) -> int:
    """Return the axis whose slices each lie together in memory."""
    return int(np.argmax(np.abs(volume.strides)))


def _fault(error: Exception, path: Path) -> str:
    """Return what went wrong, in one line and without the folders of this machine."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).replace(str(path), path.name).split())
