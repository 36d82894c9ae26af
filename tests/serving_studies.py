"""Studies for tests of serving: bodies without symmetry, written as DICOM series, names of people everywhere."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import generate_uid
from test_sources_dicom import RAMP, dataset

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.studies import Study

MARKER = "ZZTOPHAT"
"""Stands wherever a person could be named."""

MARKER_UID = "1.3.6.1.4.1.99999.4711.8150"
AXIAL = (1, 0, 0, 0, 1, 0)
SPACING = (0.8, 0.9, 2.5)


def body(shape: tuple[int, int, int] = (11, 9, 7), seed: int = 0) -> NDArray[np.int16]:
    """Return values [X, Y, Z] as of a CT, in RAS+."""
    return np.random.default_rng(seed).integers(-1024, 1500, shape, dtype=np.int16)


def write_series(
    folder: Path,
    slices: Sequence[NDArray[Any]],
    cosines: Sequence[float] = AXIAL,
    *,
    step: Sequence[float] | None = None,
    origin: Sequence[float] = (-40.0, -30.0, 100.0),
    places: Sequence[float] | None = None,
    pitch: tuple[float, float] = (SPACING[1], SPACING[0]),
    order: Sequence[int] | None = None,
    **header: Any,
) -> list[Path]:
    """Write stored slices [rows, columns], one file each, and return the files in the order of `order`.

    `step` leads from a slice to the next in LPS mm, by default along the normal; `places` are multiples of it. A header
    may be a list of values, one a slice, where it is a list of the same length in a tuple.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    along = np.cross(cosines[:3], cosines[3:]) * SPACING[2] if step is None else np.array(step)
    paths = []
    for number in range(len(slices)):
        place = number if places is None else places[number]
        ds = dataset(
            np.ascontiguousarray(slices[number]),
            SeriesInstanceUID=series,
            PatientName=f"{MARKER}^{MARKER}",
            PatientID=MARKER,
            InstitutionName=MARKER,
            SeriesDescription=MARKER,
            InstanceNumber=number + 1,
            ImageOrientationPatient=list(map(float, cosines)),
            ImagePositionPatient=[round(float(each), 6) for each in np.array(origin) + place * along],
            PixelSpacing=list(pitch),
        )
        for keyword, value in header.items():
            setattr(ds, keyword, value[number] if isinstance(value, tuple) else value)
        path = folder / f"{MARKER} {number * 7 % len(slices):03d}"
        path = path.with_name(path.name + f"-{number}")
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return [paths[place] for place in (range(len(paths)) if order is None else order)]


def axial_slices(volume_XYZ: NDArray[Any]) -> list[NDArray[Any]]:
    """Return a RAS+ volume as a scanner stores it: rows run to the patient's left, columns to the back."""
    return [volume_XYZ[::-1, ::-1, z].T for z in range(volume_XYZ.shape[2])]


HOSTILE_LIMITS = Limits(voxels=10**6, upload_files=50, unpacked_bytes=10**6, image_pixels=10**6)


def good_picture(path: Path) -> Path:
    """Write a picture of 10 columns."""
    Image.fromarray(RAMP.astype(np.uint8)).save(path, "PNG")
    return path


def left_out_beside(good: Path, opened: Callable[[list[Path]], Study], *files: Path) -> dict[str, int]:
    """Return why files are left out that are uploaded beside a good one, which is written to `good`."""
    study = opened([good_picture(good), *files])
    assert [one.kind for one in study.series] == ["picture"]
    return dict(study.left_out)


def zip_of(folder: Path, entries: Sequence[tuple[str | ZipInfo, bytes]], name: str = "a.zip") -> Path:
    """Write a zip of names and contents."""
    with ZipFile(folder / name, "w", ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return folder / name


def everything_below(folder: Path) -> dict[Path, int]:
    """Return all paths below a folder with the time of their last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
