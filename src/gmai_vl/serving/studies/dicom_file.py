"""One DICOM file of a study: what its header tells, without a name, and its frames as the corpus reader shows them."""

import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID

from gmai_vl.foundation import BadItem
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.studies.series import Note
from gmai_vl.serving.studies.windows import AUTO, PRESETS, STORED
from gmai_vl.sources.decoder import FAULTS
from gmai_vl.sources.deidentify import deidentify
from gmai_vl.sources.dicom import MODALITY_OF, NO_PICTURE
from gmai_vl.sources.dicom_pixels import (
    PIXEL_DATA,
    Grey,
    checked_size,
    floats,
    frame_count,
    grey_frame,
    read_file,
    shown_frame,
)
from gmai_vl.sources.geometry import percentile_window, shown_picture, to_uint8

# pydicom's warnings quote values of the header. For good: what is set for a while is set for all threads.
warnings.filterwarnings("ignore", module="pydicom")

_KEY = secrets.token_bytes(32)
"""Of the hashes that stand for UIDs in this process; nobody can try candidates."""


class Place(NamedTuple):
    """Where a slice lies in DICOM's left-posterior-superior mm."""

    position: tuple[float, ...]
    cosines: tuple[float, ...]
    """Where a row runs to, then a column."""

    pitch: tuple[float, ...]
    """Of rows and of columns."""


class Order(NamedTuple):
    """Sorts files whatever the order they come in. Not to be shown."""

    series: float
    """SeriesNumber."""

    number: float
    """InstanceNumber."""

    uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomFile:
    """A picture file that may be shown."""

    path: Path
    header: Dataset
    """De-identified, without the pixels."""

    order: Order
    series: str
    """Equal in files of one series; nothing can be learnt from it."""

    frames: int
    modality: str | None
    height: int
    width: int
    """As shown."""

    pitch: tuple[float, float] | None
    """Of the shown rows and columns in mm."""

    place: Place | None
    """Of a single frame."""

    is_deep: bool
    """Grey of more than 8 bits: windows apply."""

    is_linear: bool
    """Needs no more than a window to be shown."""

    has_window: bool
    is_in_hounsfield: bool
    notes: tuple[Note, ...]

    def grey(self, frame: int) -> Grey:
        """Decode a frame of deep grey. Raises BadItem."""
        try:
            ds = self._whole(frame)
            grey = grey_frame(ds, self.path, frame)
        except FAULTS as error:
            raise _damaged(error) from None
        assert grey is not None, "no windows on colours"
        return grey

    def shown(self, frame: int, window: str) -> NDArray[np.uint8]:
        """Decode a frame and return it through a window, the right way up. Raises BadItem."""
        try:
            if not self.is_deep or window == STORED:
                pixels = shown_frame(self._whole(frame), self.path, frame)
            else:
                grey = self.grey(frame)
                bounds = percentile_window(grey.values) if window == AUTO else PRESETS[window]
                pixels = to_uint8(grey.values, *bounds)
                pixels = 255 - pixels if grey.is_inverted else pixels
            return shown_picture(pixels, _cosines(self.header, frame))[0]
        except FAULTS as error:
            raise _damaged(error) from None

    def _whole(self, frame: int) -> Dataset:
        """Return the header with the pixels."""
        ds = Dataset()
        ds.update(self.header)
        ds.file_meta = self.header.file_meta
        ds.add(read_file(self.path)[PIXEL_DATA])
        checked_size(ds, frame, self.frames)
        return ds


def read_dicom(path: Path, limits: Limits) -> DicomFile:
    """Read a header and hold it against the limits. Raises BadItem, with what quotes nothing of it."""
    try:
        ds = read_file(path)
        clean, _ = deidentify(ds, _KEY)
        _check(clean)
        frames = frame_count(clean)
        rows, columns = checked_size(clean, 0, frames)
        if rows * columns > limits.image_pixels:
            raise BadItem(f"has {columns} x {rows} pixels, more than {limits.image_pixels}, the limit of a picture")
        del clean[PIXEL_DATA]
        return _described(path, clean, frames, (rows, columns), _order(ds))
    except FAULTS as error:
        raise _damaged(error) from None


def _check(clean: Dataset) -> None:
    """Raise BadItem for what is no picture, or whose pixels nothing here can decode."""
    kind = clean.get("SOPClassUID")
    is_other = PIXEL_DATA not in clean and kind is not None and "Image Storage" not in UID(kind).name
    if str(clean.get("Modality", "")) in NO_PICTURE or is_other:
        # Of the standard's own names only: a private one may be any text.
        name = UID(kind).name if kind else ""
        raise BadItem(f"{name if name and name != kind else 'an object'} is no picture")
    if PIXEL_DATA not in clean:
        raise BadItem("has no pixels")
    syntax = clean.file_meta.TransferSyntaxUID
    if syntax.name == str(syntax):
        raise BadItem("is in a transfer syntax that is not of the standard")


def _described(path: Path, clean: Dataset, frames: int, size: tuple[int, int], order: Order) -> DicomFile:
    cosines = _cosines(clean, 0)
    shown, _, swapped = shown_picture(np.broadcast_to(np.uint8(0), size), cosines)
    pitch, position = floats(clean, 0, "PixelSpacing", 2), floats(clean, 0, "ImagePositionPatient", 3)
    has_pitch = pitch is not None and min(pitch) > 0
    is_placed = frames == 1 and has_pitch and any(cosines)
    place = Place(position, cosines, pitch) if is_placed and position and pitch else None
    is_grey = str(clean.PhotometricInterpretation) in ("MONOCHROME1", "MONOCHROME2")
    notes: dict[Note, str] = {"burned_in": "BurnedInAnnotation", "recognizable": "RecognizableVisualFeatures"}
    width = floats(clean, 0, "WindowWidth", 1)
    return DicomFile(
        path=path,
        header=clean,
        order=order,
        series=str(clean.get("SeriesInstanceUID") or secrets.token_hex(8)),
        frames=frames,
        modality=MODALITY_OF.get(str(clean.get("Modality", ""))),
        height=shown.shape[0],
        width=shown.shape[1],
        pitch=(pitch[swapped], pitch[not swapped]) if pitch and has_pitch else None,
        place=place,
        is_deep=is_grey and int(clean.BitsAllocated) > 8,
        is_linear=clean.PhotometricInterpretation == "MONOCHROME2" and "VOILUTSequence" not in clean,
        has_window=bool(floats(clean, 0, "WindowCenter", 1) and width and width[0] > 1),
        is_in_hounsfield=clean.get("Modality") == "CT" and clean.get("RescaleType") in (None, "HU"),
        notes=tuple(note for note, keyword in notes.items() if clean.get(keyword) == "YES"),
    )


def _order(ds: Dataset) -> Order:
    series, number = (floats(ds, 0, keyword, 1) or (0.0,) for keyword in ("SeriesNumber", "InstanceNumber"))
    return Order(series[0], number[0], str(ds.get("SOPInstanceUID") or ""))


def _cosines(ds: Dataset, frame: int) -> tuple[float, ...]:
    return floats(ds, frame, "ImageOrientationPatient", 6) or (0.0,) * 6


def _damaged(error: Exception) -> BadItem:
    return BadItem(f"is damaged or not to the standard ({type(error).__name__})")
