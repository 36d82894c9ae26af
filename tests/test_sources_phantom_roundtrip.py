"""Phantom studies come back from every file format as they were drawn."""

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gmai_vl.foundation import UserError
from gmai_vl.records import Case
from gmai_vl.sources import list_items, read_item
from gmai_vl.sources.phantom.cohort import draw_study
from gmai_vl.sources.phantom.files import write_studies
from gmai_vl.sources.spec import DicomSource, FolderSource, MaskSource, PhantomSource, VolumeSource

PATIENT = {"regex": r"([a-z-]+-p\d+)"}


def cohort(*families: str, patients: int = 5, size: int = 96) -> PhantomSource:
    return PhantomSource(
        name="cohort", format="phantom", families=families, patients=patients, size=size, slices_per_axis=1
    )


def drawn(spec: PhantomSource) -> dict[str, Case]:
    """Stem of the file -> case."""
    cases = [case for item in list_items(spec, Path("/")) for case in read_item(spec, Path("/"), item)]
    return {case.item.replace("/", "-").replace("@", "_").replace("=", "_"): case for case in cases}


def read(spec, root: Path) -> dict[str, Case]:
    cases = [case for item in list_items(spec, root) for case in read_item(spec, root, item)]
    assert all(isinstance(case, Case) for case in cases), cases
    return {Path(case.item).stem: case for case in cases}


def finding_keys(case: Case) -> list[tuple]:
    return sorted((found.label.en, found.box, found.area_share, found.side or "") for found in case.findings)


def test_folder(tmp_path):
    spec = cohort("chest-x-ray", "dermoscopy")
    root = write_studies(spec, tmp_path / "f", "folder")
    source = FolderSource(
        name="f", format="folder", root=".", modality="X-Ray", patient=PATIENT,
        labels={"no_finding": {"en": "no finding", "negative": True}},
    )  # fmt: skip
    back, truth = read(source, root), drawn(spec)
    assert back.keys() == truth.keys()
    for stem, case in truth.items():
        assert np.array_equal(back[stem].pixels, case.pixels)
        assert back[stem].patient_id == case.patient_id
        assert back[stem].negative == case.negative
        assert [found.label for found in back[stem].findings] == [found.label for found in case.findings[:1]]


def test_masks(tmp_path):
    spec = cohort("fundus", "histopathology", "breast-ultrasound")
    root = write_studies(spec, tmp_path / "m", "mask")
    source = MaskSource(
        name="m", format="mask", root=".", modality="Fundus Photography", images="images", masks="masks/{stem}.png",
        mask_labels={int(value): name for value, name in json.loads((root / "mask_labels.json").read_text()).items()},
        components=True, empty_mask="negative", patient=PATIENT,
    )  # fmt: skip
    back, truth = read(source, root), drawn(spec)
    assert back.keys() == truth.keys()
    assert any(len(case.findings) > 1 for case in truth.values())
    for stem, case in truth.items():
        assert np.array_equal(back[stem].pixels, case.pixels)
        assert finding_keys(back[stem]) == finding_keys(case)
        assert back[stem].negative == case.negative
        assert back[stem].patient_id == case.patient_id


@pytest.fixture(scope="module")
def volumes() -> PhantomSource:
    return cohort("abdomen-ct", "brain-mr", patients=1)


def test_nifti(tmp_path, volumes):
    root = write_studies(volumes, tmp_path / "v", "nifti")
    names = {int(value): name for value, name in json.loads((root / "mask_labels.json").read_text()).items()}
    for item in list_items(volumes, Path("/")):
        family, study = draw_study(volumes, item)
        source = VolumeSource(
            name="v", format="volume", root=".", modality=family.modality, images=f"imagesTr/{family.name}*.nii.gz",
            masks="labelsTr/{stem}.nii.gz", mask_labels=names, slices_per_axis=2, window=study.window, patient=PATIENT,
        )  # fmt: skip
        (file,) = list_items(source, root)
        cases = read_item(source, root, file)
        assert [case.plane for case in cases] == ["axial"] * 2 + ["coronal"] * 2 + ["sagittal"] * 2
        for case in cases:
            index = int(case.item.rpartition("=")[2])
            # Rows and columns of a RAS+ volume as they are shown, spelt out for each plane.
            cut = {
                "axial": np.s_[::-1, ::-1, index],
                "coronal": np.s_[::-1, index, ::-1],
                "sagittal": np.s_[index, ::-1, ::-1],
            }[case.plane]
            low, high = study.window
            shown = np.clip((study.image[cut].T - low) / (high - low), 0, 1) * 255
            assert np.abs(case.pixels - shown).max() <= 0.51
            assert case.spacing_mm == pytest.approx(study.spacing_mm[:2], rel=1e-5)
            labels = study.labels[cut].T
            seen = {family.terms[value - 1].en: labels == value for value in np.unique(labels) if value}
            assert {found.label.en for found in case.findings} == set(seen)
            assert all(np.array_equal(found.mask, seen[found.label.en]) for found in case.findings)


def test_nifti_refuses_pictures(tmp_path):
    with pytest.raises(UserError, match="fundus"):
        write_studies(cohort("fundus"), tmp_path / "n", "nifti")


def test_dicom_pictures(tmp_path):
    spec = cohort(
        "chest-x-ray", "colonoscopy", "breast-ultrasound", "dermoscopy", "fundus", "histopathology", patients=2
    )
    root = write_studies(spec, tmp_path / "d", "dicom")
    back = {Path(item).parent.name: read_item(DICOM, root, item)[0] for item in list_items(DICOM, root)}
    truth = drawn(spec)
    assert back.keys() == truth.keys()
    for stem, case in truth.items():
        assert np.array_equal(back[stem].pixels, case.pixels)
        assert back[stem].modality == case.modality
        assert back[stem].body_part == case.body_part
    assert len({case.patient_id for case in back.values()}) == len(truth)


DICOM = DicomSource(name="d", format="dicom", root=".")


def test_dicom_slices(tmp_path, volumes):
    root = write_studies(volumes, tmp_path / "d", "dicom")
    for item in list_items(volumes, Path("/")):
        family, study = draw_study(volumes, item)
        files = [file for file in list_items(DICOM, root) if file.startswith(family.name)]
        assert len(files) == study.image.shape[2]
        patients = set()
        for index in (0, 20, len(files) - 1):
            (case,) = read_item(DICOM, root, files[index])
            patients.add(case.patient_id)
            low, high = study.window
            shown = np.clip((study.image[::-1, ::-1, index].T - low) / (high - low), 0, 1) * 255
            assert np.abs(case.pixels - shown).max() < 1.01
            assert (case.modality, case.plane, case.body_part) == (family.modality, "axial", family.body_part)
            assert case.spacing_mm == pytest.approx(study.spacing_mm[:2])
        assert len(patients) == 1


def test_dicom_slices_lie_where_their_headers_say(tmp_path, volumes):
    """Against nibabel's affine of the NIfTI form: the same voxel has the same place in both."""
    nibabel, pydicom = pytest.importorskip("nibabel"), pytest.importorskip("pydicom")
    spec = cohort("abdomen-ct", patients=1)
    dicom, nifti = write_studies(spec, tmp_path / "d", "dicom"), write_studies(spec, tmp_path / "n", "nifti")
    volume = nibabel.load(nifti / "imagesTr" / "abdomen-ct-p0000.nii.gz")
    values = np.asanyarray(volume.dataobj)
    header = pydicom.dcmread(dicom / "abdomen-ct-p0000" / "0031.dcm")
    stored = header.pixel_array.astype(int) + int(header.RescaleIntercept)
    row, column = 40, 55
    orientation = np.array(header.ImageOrientationPatient, float)
    pitch = np.array(header.PixelSpacing, float)
    place = np.array(header.ImagePositionPatient, float)
    place += column * pitch[1] * orientation[:3] + row * pitch[0] * orientation[3:]
    voxel = np.linalg.inv(volume.affine) @ [-place[0], -place[1], place[2], 1]  # LPS to RAS
    assert voxel == pytest.approx(np.rint(voxel), abs=1e-3)
    assert stored[row, column] == values[tuple(np.rint(voxel[:3]).astype(int))]


@pytest.fixture(scope="module")
def mixed() -> PhantomSource:
    return cohort("fundus", "abdomen-ct", patients=2)


def test_coco(tmp_path, mixed):
    root = write_studies(mixed, tmp_path / "c", "coco")
    data = json.loads((root / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in data["categories"]}
    truth = drawn(mixed)
    assert {Path(image["file_name"]).stem for image in data["images"]} == truth.keys()
    for image in data["images"]:
        case = truth[Path(image["file_name"]).stem]
        assert np.array_equal(np.asarray(Image.open(root / "images" / image["file_name"])), case.pixels)
        entries = [entry for entry in data["annotations"] if entry["image_id"] == image["id"]]
        assert len(entries) == len(case.findings)
        for entry, found in zip(entries, case.findings, strict=True):
            assert names[entry["category_id"]] == found.label.en
            flat, value = [], 0
            for run in entry["segmentation"]["counts"]:
                flat += [value] * run
                value = 1 - value
            height, width = entry["segmentation"]["size"]
            mask = np.array(flat).reshape(width, height).T
            assert np.array_equal(mask, found.mask)
            x, y, w, h = entry["bbox"]
            assert mask[y : y + h, x : x + w].sum() == mask.sum() == entry["area"]
            assert mask[y].any() and mask[y + h - 1].any() and mask[:, x].any() and mask[:, x + w - 1].any()


def test_voc(tmp_path, mixed):
    root = write_studies(mixed, tmp_path / "v", "voc")
    truth = drawn(mixed)
    assert {path.stem for path in (root / "Annotations").iterdir()} == truth.keys()
    for stem, case in truth.items():
        tree = ET.parse(root / "Annotations" / f"{stem}.xml").getroot()
        assert (root / "JPEGImages" / tree.findtext("filename")).is_file()
        assert (tree.findtext("size/width"), tree.findtext("size/height")) == (str(case.width), str(case.height))
        for thing, found in zip(tree.findall("object"), case.findings, strict=True):
            assert thing.findtext("name") == found.label.en
            left, top, right, bottom = (
                int(thing.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            rows, columns = np.nonzero(found.mask)
            # Counted from 1, both ends included.
            assert (left, top, right, bottom) == (
                columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1
            )  # fmt: skip


def test_yolo(tmp_path, mixed):
    root = write_studies(mixed, tmp_path / "y", "yolo")
    names = yaml.safe_load((root / "data.yaml").read_text())["names"]
    for stem, case in drawn(mixed).items():
        assert (root / "images" / f"{stem}.png").is_file()
        lines = (root / "labels" / f"{stem}.txt").read_text().splitlines()
        for line, found in zip(lines, case.findings, strict=True):
            number, *shares = line.split()
            x, y, w, h = np.array(shares, float) * case.width
            assert names[int(number)] == found.label.en
            assert (x - w / 2, y - h / 2, x + w / 2, y + h / 2) == pytest.approx(found.box, abs=1e-3)


def test_csv(tmp_path):
    spec = cohort("colonoscopy", patients=6)
    root = write_studies(spec, tmp_path / "t", "csv")
    rows = list(csv.DictReader((root / "table.csv").open(encoding="utf-8")))
    truth = drawn(spec)
    assert [Path(row["image"]).stem for row in rows] == list(truth)
    assert any(row["label"] == "no finding" for row in rows)
    for row in rows:
        case = truth[Path(row["image"]).stem]
        assert np.array_equal(np.asarray(Image.open(root / row["image"])), case.pixels)
        assert row["patient"] == case.patient_id
        assert row["label"] == (case.findings[0].label.en if case.findings else "no finding")
