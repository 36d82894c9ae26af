"""Phantom studies as files in the formats that the readers read, so that every reader can be held against the truth."""

import csv
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmai_vl.foundation import UserError, write_json, write_text
from gmai_vl.records import Case, Finding
from gmai_vl.sources.geometry import shown_slice
from gmai_vl.sources.phantom.cohort import FAMILIES, annotated_cases, draw_study, list_items, patient_id
from gmai_vl.sources.phantom.study import Family, Study
from gmai_vl.sources.spec import PhantomSource

Format = Literal["folder", "coco", "voc", "yolo", "mask", "nifti", "dicom", "csv"]


def write_studies(spec: PhantomSource, out: Path, to: Format) -> Path:
    """Write all studies of `spec` below `out` in one format; return `out`.

    folder  CLASS/STEM.png, the class with underscores for blanks
    coco    images/STEM.png and annotations.json; boxes, and masks as uncompressed run lengths
    voc     JPEGImages/STEM.png and Annotations/STEM.xml; boxes from 1, both ends included
    yolo    images/STEM.png, labels/STEM.txt and data.yaml; centre and size as shares of the image
    mask    images/STEM.png, masks/STEM.png and mask_labels.json (value -> label)
    nifti   imagesTr/PATIENT.nii.gz, labelsTr/PATIENT.nii.gz and mask_labels.json; stored in LPS+ order
    dicom   PATIENT/0001.dcm; a volume slice by slice from below, raw values with their window
    csv     images/STEM.png and table.csv (image, label, patient)

    STEM is `chest-x-ray-p0007`, and for slices `brain-mr-p0007_axial_42`. Raises UserError if a family is unknown, or
    draws pictures where only volumes can be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    _WRITERS[to](spec, out)
    return out


def mask_labels(spec: PhantomSource) -> dict[int, str]:
    """Return mask value -> label of the formats that write label maps: the terms of all families in order."""
    labels = [term.en for name in _families(spec) for term in FAMILIES[name].terms]
    return dict(enumerate(labels, start=1))


def _families(spec: PhantomSource) -> list[str]:
    return list(dict.fromkeys(item.partition("/")[0] for item in list_items(spec, Path())))


class _Picture(NamedTuple):
    stem: str
    case: Case
    labels: NDArray[np.uint8]
    """0, or a value of `mask_labels`."""


def _pictures(spec: PhantomSource) -> Iterator[_Picture]:
    values = {label: value for value, label in mask_labels(spec).items()}
    for item in list_items(spec, Path()):
        table = _values_of(FAMILIES[item.partition("/")[0]], values)
        for case, labels_HW in annotated_cases(spec, item):
            cut = case.item.partition("@")[2].replace("=", "_")
            stem = f"{case.patient_id}_{cut}" if cut else str(case.patient_id)
            yield _Picture(stem, case, table[labels_HW])


def _values_of(family: Family, values: dict[str, int]) -> NDArray[np.uint8]:
    """Return the table from a family's own label values to those of the whole cohort."""
    return np.array([0, *(values[term.en] for term in family.terms)], np.uint8)


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _main_label(case: Case) -> str:
    """The lesion, which stands before the organs, or that there is none."""
    if case.negative is not None:
        return case.negative.en
    return case.findings[0].label.en


def _write_folder(spec: PhantomSource, out: Path) -> None:
    for stem, case, _ in _pictures(spec):
        _save(case.pixels, out / _main_label(case).replace(" ", "_") / f"{stem}.png")


def _write_csv(spec: PhantomSource, out: Path) -> None:
    with (out / "table.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("image", "label", "patient"))
        for stem, case, _ in _pictures(spec):
            _save(case.pixels, out / "images" / f"{stem}.png")
            table.writerow((f"images/{stem}.png", _main_label(case), case.patient_id))


def _write_coco(spec: PhantomSource, out: Path) -> None:
    categories = {label: value for value, label in mask_labels(spec).items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for stem, case, _ in _pictures(spec):
        _save(case.pixels, out / "images" / f"{stem}.png")
        image = len(images) + 1
        images.append({"id": image, "file_name": f"{stem}.png", "width": case.width, "height": case.height})
        for finding in case.findings:
            x1, y1, x2, y2 = _box(finding)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": categories[finding.label.en],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": int(_mask(finding).sum()),
                    "segmentation": {"size": [case.height, case.width], "counts": _run_lengths(_mask(finding))},
                    "iscrowd": 0,
                }
            )
    named = [{"id": value, "name": label} for label, value in categories.items()]
    write_json(out / "annotations.json", {"images": images, "annotations": annotations, "categories": named})


def _run_lengths(mask_HW: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run lengths: down the columns, zeros first."""
    flat = mask_HW.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


def _write_voc(spec: PhantomSource, out: Path) -> None:
    for stem, case, _ in _pictures(spec):
        _save(case.pixels, out / "JPEGImages" / f"{stem}.png")
        root = ET.Element("annotation")
        _elements(root, folder="JPEGImages", filename=f"{stem}.png")
        depth = 1 if case.pixels.ndim == 2 else 3
        _elements(ET.SubElement(root, "size"), width=case.width, height=case.height, depth=depth)
        for finding in case.findings:
            x1, y1, x2, y2 = _box(finding)
            thing = ET.SubElement(root, "object")
            _elements(thing, name=finding.label.en, difficult=0)
            _elements(ET.SubElement(thing, "bndbox"), xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
        ET.indent(root)
        write_text(out / "Annotations" / f"{stem}.xml", ET.tostring(root, encoding="unicode") + "\n")


def _elements(parent: ET.Element, **texts: object) -> None:
    for name, text in texts.items():
        ET.SubElement(parent, name).text = str(text)


def _write_yolo(spec: PhantomSource, out: Path) -> None:
    names = list(mask_labels(spec).values())
    for stem, case, _ in _pictures(spec):
        _save(case.pixels, out / "images" / f"{stem}.png")
        lines = []
        for finding in case.findings:
            x1, y1, x2, y2 = _box(finding)
            shares = np.array((x1 + x2, y1 + y2, 2 * (x2 - x1), 2 * (y2 - y1))) / 2
            shares /= (case.width, case.height, case.width, case.height)
            lines.append(" ".join([str(names.index(finding.label.en)), *(f"{share:.6f}" for share in shares)]))
        write_text(out / "labels" / f"{stem}.txt", "".join(f"{line}\n" for line in lines))
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(names))
    write_text(out / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{listed}")


def _write_mask(spec: PhantomSource, out: Path) -> None:
    for stem, case, labels in _pictures(spec):
        _save(case.pixels, out / "images" / f"{stem}.png")
        _save(labels, out / "masks" / f"{stem}.png")
    write_json(out / "mask_labels.json", mask_labels(spec))


def _write_nifti(spec: PhantomSource, out: Path) -> None:
    import nibabel  # only this format needs it

    values = {label: value for value, label in mask_labels(spec).items()}
    for name in _families(spec):
        if not FAMILIES[name].volume:
            raise UserError(f"source `{spec.name}`: families: `{name}` draws pictures, and NIfTI files hold volumes")
    for item, family, study in _studies(spec):
        assert study.spacing_mm is not None
        # Stored the way most scanners do: x to the patient's left, y to the back.
        affine = np.diag([*np.multiply(study.spacing_mm, (-1, -1, 1)), 1])
        affine[:3, 3] = _corner(study, (1, 1, -1))
        labels = _values_of(family, values)[study.labels]
        for folder, volume in (("imagesTr", study.image), ("labelsTr", labels)):
            (out / folder).mkdir(exist_ok=True)
            stored = nibabel.Nifti1Image(np.ascontiguousarray(volume[::-1, ::-1]), affine)
            stored.header.set_xyzt_units("mm")
            nibabel.save(stored, out / folder / f"{patient_id(item)}.nii.gz")
    write_json(out / "mask_labels.json", mask_labels(spec))


def _corner(study: Study, signs: tuple[int, int, int]) -> list[float]:
    """Return a corner voxel's place in RAS+ mm, the middle of the volume being 0; `signs`: 1 for the far end."""
    assert study.spacing_mm is not None
    return [s * (n - 1) / 2 * mm for s, n, mm in zip(signs, study.image.shape, study.spacing_mm, strict=True)]


def _studies(spec: PhantomSource) -> Iterator[tuple[str, Family, Study]]:
    for item in list_items(spec, Path()):
        yield item, *draw_study(spec, item)


_DICOM_MODALITY = {
    "X-Ray": ("DX", "1.2.840.10008.5.1.4.1.1.1.1"),
    "CT": ("CT", "1.2.840.10008.5.1.4.1.1.2"),
    "MR": ("MR", "1.2.840.10008.5.1.4.1.1.4"),
    "Ultrasound": ("US", "1.2.840.10008.5.1.4.1.1.6.1"),
    "Fundus Photography": ("OP", "1.2.840.10008.5.1.4.1.1.77.1.5.1"),
    "Dermoscopy": ("DMS", "1.2.840.10008.5.1.4.1.1.77.1.4"),
    "Endoscopy": ("ES", "1.2.840.10008.5.1.4.1.1.77.1.1"),
    "Pathology": ("SM", "1.2.840.10008.5.1.4.1.1.77.1.2"),
}
"""Modality -> DICOM's Modality and storage class (PS3.4 B.5)."""


def _write_dicom(spec: PhantomSource, out: Path) -> None:
    for item, family, study in _studies(spec):
        folder = out / patient_id(item)
        folder.mkdir(exist_ok=True)
        if study.spacing_mm is None:
            data = _dicom_header(spec, item, family, 1)
            _put_pixels(data, study.image, 8)
            data.save_as(folder / "0001.dcm", enforce_file_format=True)
            continue
        column, row, thickness = study.spacing_mm
        # DICOM counts x to the patient's left and y to the back; the first pixel lies far right and in front.
        right, front, bottom = _corner(study, (1, 1, -1))
        low, high = study.window
        for index in range(study.image.shape[2]):
            data = _dicom_header(spec, item, family, index + 1)
            data.PixelSpacing, data.SliceThickness = [row, column], thickness
            data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            data.ImagePositionPatient = [-right, -front, bottom + index * thickness]
            data.RescaleSlope, data.RescaleIntercept = 1, -1024 if family.modality == "CT" else 0
            # The inverse of PS3.3 C.11.2.1.2.1: `low` is black and `high` white.
            data.WindowCenter, data.WindowWidth = f"{(low + high + 1) / 2:.3f}", f"{high - low + 1:.3f}"
            values = shown_slice(study.image, "axial", index) - int(data.RescaleIntercept)
            _put_pixels(data, np.clip(values, 0, 4095).astype(np.uint16), 12)
            data.save_as(folder / f"{index + 1:04d}.dcm", enforce_file_format=True)


def _dicom_header(spec: PhantomSource, item: str, family: Family, number: int) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset  # only this format needs it
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    modality, storage = _DICOM_MODALITY[family.modality]
    names = ["gmai-vl phantom", str(spec.seed), item]
    data = Dataset()
    data.SOPClassUID = storage
    data.SOPInstanceUID = generate_uid(entropy_srcs=[*names, str(number)])
    data.StudyInstanceUID = generate_uid(entropy_srcs=[*names, "study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[*names, "series"])
    data.FrameOfReferenceUID = generate_uid(entropy_srcs=[*names, "frame"])
    data.PatientID = patient_id(item)
    data.PatientName = f"Phantom^{patient_id(item)}"
    data.Modality = modality
    data.BodyPartExamined = family.body_part.en.upper()
    data.InstanceNumber = number
    data.BurnedInAnnotation = "NO"
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = storage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


def _put_pixels(data: Any, pixels: NDArray[Any], bits: int) -> None:
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = pixels.dtype.itemsize * 8
    data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits - 1, 0
    data.PixelData = np.ascontiguousarray(pixels).tobytes()


def _box(finding: Finding) -> tuple[int, int, int, int]:
    assert finding.box is not None  # phantoms always have one
    return finding.box


def _mask(finding: Finding) -> NDArray[np.bool_]:
    assert finding.mask is not None  # phantoms always have one
    return finding.mask


_WRITERS = {
    "folder": _write_folder,
    "coco": _write_coco,
    "voc": _write_voc,
    "yolo": _write_yolo,
    "mask": _write_mask,
    "nifti": _write_nifti,
    "dicom": _write_dicom,
    "csv": _write_csv,
}
