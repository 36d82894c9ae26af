"""DICOM segmentations: the segments that stand for an image become masks in its own stored orientation."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from gmai_vl.foundation import BadItem
from gmai_vl.sources.decoder import FAULTS
from gmai_vl.sources.files import list_files
from gmai_vl.sources.labels import term_of
from gmai_vl.sources.spec import DicomSource
from gmai_vl.vocabulary import Term, branch_of, term

if TYPE_CHECKING:
    import highdicom

SEGMENTATION_STORAGES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage (PS3.4 B.5)."""

MAX_BYTES = 2**28
"""Of a segmentation, which is held in memory as a whole, and of its unpacked pixels of one frame."""

_INSIDE_FROM = 0.5
"""Of fractional segments: probability or occupancy from which a pixel belongs to it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of one frame."""

    source_label: str
    """The word of the recipe or of the vocabulary that it is called by; never another text of the file."""

    term: Term
    mask: NDArray[np.bool_]
    """[H, W] as the pixels of the image are stored."""


def segments_of(
    spec: DicomSource, root: Path, sop_uid: str, shape: tuple[int, int], frame: int, frames: int
) -> list[Segment]:
    """Return the segments of a frame (from 0) of the image `sop_uid` of a shape [H, W].

    They come from all segmentations below `root`.

    Labels are free text and may name anybody: only those that `labels` or the vocabulary knows are used. Raises
    BadItem for another one, and if a segmentation cannot be read.
    """
    found = []
    for path in _segmentations(spec.name, root, spec.images).get(sop_uid, ()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they quote the header
                found += _segments_in(spec, path, sop_uid, shape, frame, frames)
        except FAULTS as error:
            raise BadItem(f"its segmentation cannot be read ({type(error).__name__})") from None
    return found


def _segments_in(
    spec: DicomSource, path: Path, sop_uid: str, shape: tuple[int, int], frame: int, frames: int
) -> list[Segment]:
    state = path.stat()
    if state.st_size > MAX_BYTES:
        raise BadItem(f"its segmentation is larger than {MAX_BYTES} bytes")
    segmentation = _opened(path, state.st_mtime_ns)
    numbers = segmentation.segment_numbers
    if (segmentation.Rows, segmentation.Columns) != shape:
        raise BadItem("its segmentation has another size")
    if 4 * shape[0] * shape[1] * len(numbers) > MAX_BYTES:
        raise BadItem(f"its segmentation unpacks to more than {MAX_BYTES} bytes")
    options = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True, "dtype": np.float32}
    if frames > 1:
        values = segmentation.get_pixels_by_source_frame(sop_uid, [frame + 1], **options)
    else:
        values = segmentation.get_pixels_by_source_instance([sop_uid], **options)
    return [
        Segment(*_meaning(spec, segmentation.get_segment_description(number), number), mask)
        for number, mask in zip(numbers, np.moveaxis(values[0] >= _INSIDE_FROM, -1, 0), strict=True)
        if mask.any()
    ]


@lru_cache(maxsize=1)
def _opened(path: Path, _changed_ns: int) -> "highdicom.seg.Segmentation":
    """Read a segmentation once for all images of its series, which follow each other."""
    import highdicom

    return highdicom.seg.segread(path)


def _meaning(spec: DicomSource, segment: Dataset, number: int) -> tuple[str, Term]:
    texts = (str(segment.segment_label), str(segment.segmented_property_type.meaning))
    for text in texts:
        if (label := spec.labels.get(text)) is not None:
            return text, term_of(text, label)
    for text in texts:
        known = term(text.replace("_", " ").strip().lower())
        if branch_of(known) is not None:
            return known.en, known
    raise BadItem(f"segment {number} of its segmentation bears a label that neither `labels` nor the vocabulary knows")


@lru_cache(maxsize=2)
def _segmentations(name: str, root: Path, images: str) -> dict[str, list[Path]]:
    """Return image -> the segmentations that refer to it; reads the headers of all files once in a process."""
    by_image: dict[str, list[Path]] = {}
    for item in list_files(name, root, images, None):
        path = root / item
        try:
            head = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            if head.get("SOPClassUID") not in SEGMENTATION_STORAGES:
                continue
            for uid in _images_of(dcmread(path, stop_before_pixels=True)):
                by_image.setdefault(uid, []).append(path)
        except FAULTS:
            continue  # a damaged file is told where it is read as an item of its own
    return by_image


def _images_of(segmentation: Dataset) -> set[str]:
    """Return the images that a segmentation refers to, by series and by frame."""
    series = [
        instance.ReferencedSOPInstanceUID
        for one in segmentation.get("ReferencedSeriesSequence", ())
        for instance in one.get("ReferencedInstanceSequence", ())
    ]
    frames = [
        source.ReferencedSOPInstanceUID
        for frame in segmentation.get("PerFrameFunctionalGroupsSequence", ())
        for derivation in frame.get("DerivationImageSequence", ())
        for source in derivation.get("SourceImageSequence", ())
    ]
    return {str(uid) for uid in (*series, *frames)}
