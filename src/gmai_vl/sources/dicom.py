"""Plain DICOM images: modality, brightness, body part and plane from the header, and nothing that names a person."""

import logging
import struct
import warnings
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Finding, Rejected
from gmai_vl.sources.decoder import FAULTS, decoded_frame
from gmai_vl.sources.deidentify import deidentify, keyed_hash, pseudonym_of, secret_of
from gmai_vl.sources.files import file_of, list_files
from gmai_vl.sources.geometry import area_share, outer_box, percentile_window, shown_picture, side_of, to_uint8
from gmai_vl.sources.labels import distinct, patient_of
from gmai_vl.sources.segments import Segment, segments_of
from gmai_vl.sources.spec import DicomSource
from gmai_vl.vocabulary import Term, term

# pydicom's messages quote values of the header, and those may name a person.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

SUFFIXES = (".dcm", ".dicom", ".ima")
MAX_PIXELS = 2**26
"""Of one frame, times samples a pixel."""
MAX_PIXELS_OF_ALL_FRAMES = 2**31
MAX_UNPACKED_BYTES = 2**28
"""Of a deflated data set."""

_PREAMBLE, _GROUP_LENGTH = 132, 12
"""Bytes before the file meta information, and of its first element, which tells how long the rest is (PS3.10 7.1)."""

MODALITY_OF = {
    "CT": "CT",
    "MR": "MR",
    "US": "Ultrasound",
    "IVUS": "Ultrasound",
    **dict.fromkeys(("CR", "DX", "DR", "MG", "RF", "RG", "XA", "PX", "IO"), "X-Ray"),
    "PT": "PET",
    "ES": "Endoscopy",
    "OP": "Fundus Photography",
    "OPT": "OCT",
    "OCT": "OCT",
    "DMS": "Dermoscopy",
    "SM": "Pathology",
    "GM": "Microscopy",
}
"""DICOM's Modality (PS3.3 C.7.3.1.1.1) -> modality of the vocabulary."""

BODY_PART_OF = {
    **dict.fromkeys(("HEAD", "SKULL", "FACE"), "head"),
    "BRAIN": "brain",
    **dict.fromkeys(("EYE", "ORBIT"), "eye"),
    "RETINA": "retina",
    "NECK": "neck",
    "THYROID": "thyroid",
    **dict.fromkeys(("CHEST", "THORAX", "RIB", "STERNUM"), "chest"),
    "LUNG": "lung",
    "HEART": "heart",
    "BREAST": "breast",
    **dict.fromkeys(("ABDOMEN", "PANCREAS", "SPLEEN"), "abdomen"),
    "LIVER": "liver",
    "KIDNEY": "kidney",
    "STOMACH": "stomach",
    "COLON": "colon",
    **dict.fromkeys(("PELVIS", "UTERUS", "BLADDER"), "pelvis"),
    "PROSTATE": "prostate",
    **dict.fromkeys(("SPINE", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "CTSPINE", "TLSPINE", "LSSPINE"), "spine"),
    "SHOULDER": "shoulder",
    "ELBOW": "elbow",
    "WRIST": "wrist",
    **dict.fromkeys(("HAND", "FINGER", "THUMB"), "hand"),
    "HIP": "hip",
    "KNEE": "knee",
    "ANKLE": "ankle",
    **dict.fromkeys(("FOOT", "TOE", "CALCANEUS"), "foot"),
    **dict.fromkeys(("EXTREMITY", "ARM", "FOREARM", "HUMERUS", "LEG", "FEMUR", "THIGH"), "extremity"),
    "SKIN": "skin",
}
"""DICOM's BodyPartExamined (PS3.16 Annex L) -> body part. Any other text is left out: it may be a name."""

NO_PICTURE = {"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD", "SR", "KO", "PR", "REG", "ECG", "EPS", "HD", "DOC"}
"""Values of Modality that stand for something derived from images or about them."""


def list_items(spec: DicomSource, root: Path) -> list[str]:
    """Return the files below `root`, sorted, whatever their ending: DICOM files often have none."""
    return list_files(spec.name, root, spec.images, None)


def read_item(spec: DicomSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one file: a case for each frame that the recipe wants, as `@frame=5`, or why not. Raises BadItem.

    Segmentations that refer to it become masks; they are no items with cases of their own.
    """
    path = _path(spec, root, item)
    name = item_name(spec, item)
    with path.open("rb") as stream:
        is_dicom = stream.read(132)[128:] == b"DICM"
    if not is_dicom and path.suffix.lower() not in SUFFIXES:
        return [Rejected(item=name, outcome="excluded", reason="is no DICOM file")]
    if not is_dicom:
        raise BadItem("lacks the DICOM prefix")
    key = secret_of(spec.secret_env, f"source `{spec.name}`")
    patient_id = _given_patient(spec, root, item, key)
    with warnings.catch_warnings():
        # pydicom's warnings quote values of the header.
        warnings.simplefilter("ignore")
        try:
            ds = _read(path)
            clean, record = deidentify(ds, key)
            if no_picture := _no_picture(clean, name):
                return [no_picture]
            modality = _checked(spec, clean)
            uid, frames = str(ds.get("SOPInstanceUID") or ""), _frames(clean)
            cases = []
            for frame in _wanted_frames(spec, frames):
                shape = _checked_size(clean, frame, frames)
                segments = segments_of(spec, root, uid, shape, frame, frames)
                cases.append(_case(spec, clean, path, name, modality, segments, frame))
            patient = patient_id or pseudonym_of(ds, key)
            return [replace(case, patient_id=patient, deidentified=record) for case in cases]
        except FAULTS as error:
            raise BadItem(f"is damaged or not to the standard ({type(error).__name__})") from None


def item_name(spec: DicomSource, item: str) -> str:
    """Return what a file is called outside this module: names of files and folders often are names of people."""
    key = secret_of(spec.secret_env, f"source `{spec.name}`")
    return f"{keyed_hash(key, 'file', item)[:16]}.dcm"


def find_item(spec: DicomSource, root: Path, name: str) -> str | None:
    """Return the file below `root` that `item_name` calls `name`; only for those who hold the files and the secret."""
    return next((item for item in list_items(spec, root) if item_name(spec, item) == name.partition("@")[0]), None)


def _path(spec: DicomSource, root: Path, item: str) -> Path:
    try:
        return file_of(root, item, spec.images)
    except BadItem:
        raise BadItem("leads out of the source's root, or is no file") from None


def _given_patient(spec: DicomSource, root: Path, item: str, key: bytes) -> str | None:
    """Return the pseudonym of the patient that the recipe finds in the path or in a table, None where it seeks none."""
    if spec.patient is None:
        return None
    try:
        return "patient-" + keyed_hash(key, "patient", patient_of(spec.patient, root, item))[:16]
    except BadItem:
        raise BadItem("its patient is not found as `patient` says") from None


def _read(path: Path) -> Dataset:
    meta = read_file_meta_info(path)
    return _inflated(path, meta) if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian else dcmread(path)


def _inflated(path: Path, meta: FileMetaDataset) -> Dataset:
    """Read a deflated data set (PS3.5 A.5) into bounded memory. Raises BadItem if it unpacks to more."""
    unpacker = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    packed = path.read_bytes()[_PREAMBLE + _GROUP_LENGTH + int(meta.FileMetaInformationGroupLength) :]
    unpacked = unpacker.decompress(packed, MAX_UNPACKED_BYTES)
    if unpacker.unconsumed_tail:
        raise BadItem(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    ds = read_dataset(BytesIO(unpacked), is_implicit_VR=False, is_little_endian=True)
    ds.file_meta = meta
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _no_picture(ds: Dataset, item: str) -> Rejected | None:
    kind = _kind(ds)
    is_other = "PixelData" not in ds and kind is not None and "Image Storage" not in kind
    if str(ds.get("Modality", "")) in NO_PICTURE or is_other:
        return Rejected(item=item, outcome="excluded", reason=f"{kind or 'an object'} is no picture")
    return None


def _checked(spec: DicomSource, ds: Dataset) -> str:
    """Return the modality of an image that may be used. Raises BadItem if it may not."""
    if "PixelData" not in ds:
        raise BadItem(f"{_kind(ds) or 'an object of unknown kind'} without pixel data")
    if ds.get("BurnedInAnnotation") == "YES" and not spec.allow_burned_in:
        raise BadItem("says that text is burned into its pixels (BurnedInAnnotation), which may name the patient")
    if ds.get("RecognizableVisualFeatures") == "YES" and not spec.allow_recognizable:
        raise BadItem("says that a person can be recognized in it (RecognizableVisualFeatures)")
    modality = MODALITY_OF.get(str(ds.get("Modality", "")), spec.modality)
    if modality is None:
        raise BadItem("its header tells no modality that the vocabulary has; give the source a `modality`")
    return modality


def _frames(ds: Dataset) -> int:
    return int(ds.get("NumberOfFrames") or 1)


def _wanted_frames(spec: DicomSource, frames: int) -> list[int]:
    """Return the frames to take, from 0: the middle one, all, or so many evenly over the whole."""
    if spec.frames == "middle" or frames < 1:
        return [frames // 2]
    wanted = frames if spec.frames == "all" else min(spec.frames, frames)
    return [(2 * place + 1) * frames // (2 * wanted) for place in range(wanted)]


def _case(
    spec: DicomSource, ds: Dataset, path: Path, item: str, modality: str, segments: list[Segment], frame: int
) -> Case:
    pixels = _shown(ds, path, frame)
    cosines = _floats(ds, frame, "ImageOrientationPatient", 6) or (0.0,) * 6
    row, column = _floats(ds, frame, "PixelSpacing", 2) or (0.0, 0.0)
    shown, plane, swapped = shown_picture(pixels, cosines)
    spacing = (column, row) if swapped else (row, column)
    return Case(
        source=spec.name,
        item=f"{item}@frame={frame}" if _frames(ds) > 1 else item,
        pixels=np.ascontiguousarray(shown),
        modality=modality,
        department=spec.department,
        clinical_task=spec.clinical_task,
        task="seg" if segments else "cls",
        findings=tuple(_finding(segment, shown_picture(segment.mask, cosines)[0]) for segment in segments),
        label_set=distinct(segment.term for segment in segments),
        plane=plane,
        body_part=_body_part(ds),
        spacing_mm=spacing if min(spacing) > 0 else None,
        license=spec.license,
        url=spec.url,
    )


def _finding(segment: Segment, mask_HW: NDArray[np.bool_]) -> Finding:
    box = outer_box(mask_HW)
    return Finding(
        label=segment.term,
        source_label=segment.source_label,
        box=box,
        area_share=area_share(mask_HW),
        side=side_of(box, mask_HW.shape[1]),
        mask=np.ascontiguousarray(mask_HW),
    )


def _kind(ds: Dataset) -> str | None:
    """Return the standard's name of what the file is; None for a private kind and where nothing is told."""
    uid = ds.get("SOPClassUID")
    return str(uid.name) if uid and uid.name != str(uid) else None


def _body_part(ds: Dataset) -> Term | None:
    name = BODY_PART_OF.get(str(ds.get("BodyPartExamined") or "").strip().upper())
    return term(name) if name else None


def _checked_size(ds: Dataset, frame: int, frames: int) -> tuple[int, int]:
    """Return rows and columns, held against the limits and the frame's own header before anything is decoded."""
    rows, columns, samples = int(ds.Rows), int(ds.Columns), int(ds.get("SamplesPerPixel") or 1)
    if min(rows, columns, samples, frames) < 1:
        raise BadItem(f"says it has {columns} x {rows} pixels, {samples} samples and {frames} frames")
    count = rows * columns * samples
    if count > MAX_PIXELS or count * frames > MAX_PIXELS_OF_ALL_FRAMES:
        raise BadItem(f"{columns} x {rows} x {samples} pixels, {frames} frames, are more than the limit")
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        wanted = count * frames * int(ds.BitsAllocated) // 8
        if ds.PhotometricInterpretation == "YBR_FULL_422":
            wanted = wanted * 2 // 3  # two pixels share their two chroma values
        if len(ds.PixelData) < wanted:
            raise BadItem(f"is cut short: {len(ds.PixelData)} bytes of pixels instead of {wanted}")
    elif syntax != RLELossless:
        coded = _coded_size(get_frame(ds.PixelData, frame, number_of_frames=frames))
        if coded is None:
            raise BadItem(f"its pixels cannot be decoded ({syntax.name})")
        if coded != (rows, columns):
            raise BadItem(f"its compressed frame is {coded[1]} x {coded[0]} pixels, its header says {columns} x {rows}")
    return rows, columns


START_OF_JP2 = b"\x00\x00\x00\x0cjP  "
START_OF_JPEG2000 = b"\xff\x4f\xff\x51"
START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""Markers after which JPEG (T.81) and JPEG-LS (T.87, F7) write height and width."""


def _coded_size(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream declares; None if it declares none."""
    if frame.startswith(START_OF_JP2):
        # A whole JP2 file instead of its stream is against the standard, but met with: boxes of length, kind, content.
        position = 0
        while frame[position + 4 : position + 8] != b"jp2c":
            position += max(8, *struct.unpack_from(">I", frame, position))
        frame = frame[position + 8 :]
    if frame.startswith(START_OF_JPEG2000):
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        return bottom - top, right - left
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        if frame[position + 1] in START_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", frame, position + 5)
            return rows, columns
        position += 2 + int(struct.unpack_from(">H", frame, position + 2)[0])
    return None


def _shown(ds: Dataset, path: Path, frame: int) -> NDArray[np.uint8]:
    """Decode one frame and return it as it is shown: [H, W] grey or [H, W, 3] RGB."""
    compressed = ds.file_meta.TransferSyntaxUID.is_compressed
    pixels = decoded_frame(path, frame) if compressed else pixel_array(ds, index=frame)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, ds)
        return _eight_bits(colours[..., :3], int(ds.RedPaletteColorLookupTableDescriptor[2]))
    if pixels.ndim == 3:
        return _eight_bits(pixels, int(ds.BitsStored))
    return _grey(ds, frame, pixels)


def _eight_bits(colours: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Keep the upper 8 bits of unsigned colours."""
    return (colours >> max(bits - 8, 0)).astype(np.uint8)


def _grey(ds: Dataset, frame: int, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring stored values through the modality's rescaling and the header's window to 0-255."""
    inverted = ds.PhotometricInterpretation == "MONOCHROME1"
    values = apply_modality_lut(pixels, _transform(ds, frame))
    center, width = _floats(ds, frame, "WindowCenter", 1), _floats(ds, frame, "WindowWidth", 1)
    if center and width and width[0] > 1:
        # PS3.3 C.11.2.1.2.1, the linear function.
        middle, half = center[0] - 0.5, (width[0] - 1) / 2
        shown = to_uint8(values, middle - half, middle + half)
    elif "VOILUTSequence" in ds:
        shown = to_uint8(apply_voi(values, ds), 0, 2 ** int(ds.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    elif pixels.dtype == np.uint8 and int(ds.BitsStored) == 8 and values is pixels:
        shown = pixels  # made for the screen already
    else:
        shown = to_uint8(values, *percentile_window(values))
    return 255 - shown if inverted else shown


def _transform(ds: Dataset, frame: int) -> Dataset:
    """Return a data set with the modality transformation of one frame alone."""
    transform = Dataset()
    if "ModalityLUTSequence" in ds:
        transform.ModalityLUTSequence = ds.ModalityLUTSequence
    slope, intercept = _floats(ds, frame, "RescaleSlope", 1), _floats(ds, frame, "RescaleIntercept", 1)
    if slope and intercept:
        transform.RescaleSlope, transform.RescaleIntercept = slope[0], intercept[0]
    return transform


def _floats(ds: Dataset, frame: int, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the first `count` numbers of an attribute of one frame, None where it is absent or not finite.

    Enhanced multi-frame images keep it in their functional groups, for all frames or for each.
    """
    groups = [ds]
    for sequence, index in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        if index < len(ds.get(sequence) or ()):
            groups += [macro.value[0] for macro in ds[sequence][index] if macro.VR == "SQ" and macro.value]
    for group in groups:
        value = group.get(keyword)
        if value is None or value == "":
            continue
        numbers = tuple(float(each) for each in (value if hasattr(value, "__iter__") else (value,)))[:count]
        if len(numbers) == count and np.isfinite(numbers).all():
            return numbers
    return None
