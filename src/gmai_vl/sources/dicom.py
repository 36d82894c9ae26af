"""Plain DICOM images: modality, brightness, body part and plane from the header, and nothing that names a person."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Finding, Rejected
from gmai_vl.sources.decoder import FAULTS
from gmai_vl.sources.deidentify import deidentify, keyed_hash, pseudonym_of, secret_of
from gmai_vl.sources.dicom_pixels import checked_size, floats, frame_count, read_file, shown_frame
from gmai_vl.sources.files import file_of, list_files
from gmai_vl.sources.geometry import area_share, outer_box, shown_picture, side_of
from gmai_vl.sources.labels import distinct, patient_of
from gmai_vl.sources.segments import Segment, segments_of
from gmai_vl.sources.spec import DicomSource
from gmai_vl.vocabulary import Term, term

SUFFIXES = (".dcm", ".dicom", ".ima")
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
            ds = read_file(path)
            clean, record = deidentify(ds, key)
            if no_picture := _no_picture(clean, name):
                return [no_picture]
            modality = _checked(spec, clean)
            uid, frames = str(ds.get("SOPInstanceUID") or ""), frame_count(clean)
            cases = []
            for frame in _wanted_frames(spec, frames):
                shape = checked_size(clean, frame, frames)
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


def _wanted_frames(spec: DicomSource, frames: int) -> list[int]:
    """Return the frames to take, from 0: the middle one, all, or so many evenly over the whole."""
    if spec.frames == "middle" or frames < 1:
        return [frames // 2]
    wanted = frames if spec.frames == "all" else min(spec.frames, frames)
    return [(2 * place + 1) * frames // (2 * wanted) for place in range(wanted)]


def _case(
    spec: DicomSource, ds: Dataset, path: Path, item: str, modality: str, segments: list[Segment], frame: int
) -> Case:
    pixels = shown_frame(ds, path, frame)
    cosines = floats(ds, frame, "ImageOrientationPatient", 6) or (0.0,) * 6
    row, column = floats(ds, frame, "PixelSpacing", 2) or (0.0, 0.0)
    shown, plane, swapped = shown_picture(pixels, cosines)
    spacing = (column, row) if swapped else (row, column)
    return Case(
        source=spec.name,
        item=f"{item}@frame={frame}" if frame_count(ds) > 1 else item,
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
