"""Real public data, where it is there: every box is the outer box of the raw mask."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from gmai_vl.records import Case
from gmai_vl.sources import FolderSource, MaskSource, VolumeSource, list_items, read_item

DATA = Path(os.environ.get("GMAI_SHARED_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()


def folder_of(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not below {DATA}; set GMAI_SHARED_DATA to the folder that holds it")
    return DATA / name


def read_all(spec, root):
    cases = [case for item in list_items(spec, root) for case in read_item(spec, root, item)]
    assert all(isinstance(case, Case) for case in cases)
    return cases


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_polyps_in_lossy_masks():
    root = folder_of("cvc_clinicdb")
    spec = MaskSource(
        format="mask",
        name="cvc",
        root=".",
        modality="Endoscopy",
        images="images",
        masks="masks/{stem}.jpg",
        threshold=127,
        labels={"polyp": "polyp"},
    )
    cases = read_all(spec, root)
    assert len(cases) == 120
    for case in cases:
        mask = np.asarray(Image.open(root / "masks" / Path(case.item).name).convert("L")) > 127
        assert [finding.box for finding in case.findings] == [box_of(mask)]


def test_nuclei_with_one_file_each():
    root = folder_of("dsb2018_nuclei")
    spec = MaskSource(
        format="mask",
        name="dsb",
        root=".",
        modality="Microscopy",
        images="stage1_train/*/images/*.png",
        masks="stage1_train/{stem}/masks/*.png",
        mask_labels={255: "nucleus"},
        limit=8,
    )
    for case in read_all(spec, root):
        files = sorted((root / case.item).parents[1].glob("masks/*.png"))
        assert [finding.box for finding in case.findings] == [box_of(np.asarray(Image.open(file))) for file in files]


def test_hippocampus_volumes():
    root = folder_of("msd_hippocampus_3d")
    spec = VolumeSource(
        format="volume",
        name="msd",
        root=".",
        modality="MR",
        images="imagesTr/*.nii.gz",
        masks="labelsTr/{stem}.nii.gz",
        mask_labels={1: "anterior hippocampus", 2: "posterior hippocampus"},
        slices_per_axis=2,
        limit=6,
    )
    for case in read_all(spec, root):
        item, _, place = case.item.partition("@")
        plane, index = place.split("=")
        stored = nibabel.load(root / item.replace("imagesTr", "labelsTr"))
        assert nibabel.aff2axcodes(stored.affine) == ("R", "A", "S")
        raw = np.asarray(stored.dataobj).take(int(index), axis={"axial": 2, "coronal": 1, "sagittal": 0}[plane])
        shown = raw[::-1, ::-1].T
        expected = {str(value): box_of(shown == value) for value in np.unique(shown) if value}
        assert {finding.source_label: finding.box for finding in case.findings} == expected


def test_brain_tumor_classes():
    root = folder_of("brain_tumor_mri_cls")
    spec = FolderSource(
        format="folder",
        name="brain",
        root=".",
        modality="MR",
        labels={"no_tumor": {"en": "no tumor", "negative": True}},
        limit=40,
    )
    cases = read_all(spec, root)
    assert len(cases) == 40
    for case in cases:
        label = case.negative or case.findings[0].label
        assert label.en.replace(" ", "_") == case.item.split("/")[0]
        assert {term.en for term in case.label_set} == {"glioma tumor", "meningioma tumor", "pituitary tumor"}
