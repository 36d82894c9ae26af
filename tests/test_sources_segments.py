"""DICOM segmentations: masks come out where they were drawn, whichever way the image is stored."""

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from test_deidentify import image

from gmai_vl.records import Case, Rejected
from gmai_vl.sources import DicomSource, list_items, read_item
from gmai_vl.sources.geometry import outer_box

SHAPE = (24, 32)
ORIENTATIONS = {
    "as shown": [1, 0, 0, 0, 1, 0],
    "mirrored": [-1, 0, 0, 0, 1, 0],
    "upside down": [1, 0, 0, 0, -1, 0],
    "turned": [0, 1, 0, 1, 0, 0],
}


def source(**keys: Any) -> DicomSource:
    return DicomSource.model_validate({"name": "d", "format": "dicom", "root": "."} | keys)


def stored(orientation: list[float], number: int = 0, **header: Any) -> Dataset:
    """An image of one study whose rows run as `orientation` says."""
    ds = image(
        Rows=SHAPE[0], Columns=SHAPE[1], PixelSpacing=[1, 1], SliceThickness=1, ImageOrientationPatient=orientation,
        ImagePositionPatient=[0, 0, number], PatientID="7", PatientName="A", StudyInstanceUID=STUDY, StudyID="1",
        SeriesInstanceUID=SERIES, FrameOfReferenceUID=FRAME, StudyDate="20200101", StudyTime="120000",
        AccessionNumber="", PatientBirthDate="", PatientSex="", ReferringPhysicianName="", InstanceNumber=number + 1,
        WindowCenter=500, WindowWidth=1000, **header,
    )  # fmt: skip
    ds.PixelData = np.random.default_rng(number).integers(0, 1000, SHAPE, np.uint16).tobytes()
    return ds


STUDY, SERIES, FRAME = generate_uid(), generate_uid(), generate_uid()


def segmentation(images: list[Dataset], masks: np.ndarray, labels: list[str], kind: str = "BINARY") -> Dataset:
    """`masks` [images, H, W, segments]."""
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(labels, start=1)
    ]
    return hd.seg.Segmentation(
        source_images=images, pixel_array=masks, segmentation_type=kind, segment_descriptions=descriptions,
        series_instance_uid=generate_uid(), series_number=2, sop_instance_uid=generate_uid(), instance_number=1,
        manufacturer="m", manufacturer_model_name="m", software_versions="1", device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian, omit_empty_frames=True,
    )  # fmt: skip


def write(root: Path, images: list[Dataset], *segmentations: Dataset) -> None:
    for number, ds in enumerate(images):
        ds.save_as(root / f"{number}.dcm", enforce_file_format=True)
    for number, ds in enumerate(segmentations):
        ds.save_as(root / f"seg{number}.dcm")


def cases_of(spec: DicomSource, root: Path) -> list[Case]:
    read = [outcome for item in list_items(spec, root) for outcome in read_item(spec, root, item)]
    return [outcome for outcome in read if isinstance(outcome, Case)]


def some_masks(images: int, segments: int) -> np.ndarray:
    masks = np.zeros((images, *SHAPE, segments), bool)
    for number in range(images):
        for segment in range(segments):
            masks[number, 3 + number : 9 + number, 4 + 8 * segment : 10 + 8 * segment, segment] = True
            masks[number, 9 + number, 4 + 8 * segment, segment] = True  # so that no turn of it is itself
    return masks


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_masks_turn_with_their_image(tmp_path: Path, orientation: str, kind: str) -> None:
    images = [stored(ORIENTATIONS[orientation], number) for number in range(3)]
    masks = some_masks(3, 2)
    given = masks if kind == "BINARY" else masks.astype(np.float32) * 0.9
    write(tmp_path, images, segmentation(images, given, ["liver", "spleen"], kind))
    cases = cases_of(source(), tmp_path)
    assert len(cases) == 3
    for number, case in enumerate(cases):
        assert (case.task, case.plane) == ("seg", "axial")
        raw = images[number].pixel_array
        shown = np.clip((raw - 499.5) / 999 + 0.5, 0, 1) * 255
        # The turn that was made of the pixels, found by trying all, must be that of the masks.
        turns = [lambda a, k=k, t=t: np.rot90(a.T if t else a, k) for k in range(4) for t in (False, True)]
        (turn,) = [t for t in turns if t(shown).shape == case.pixels.shape and np.abs(t(shown) - case.pixels).max() < 1]
        assert [found.label.en for found in case.findings] == ["liver", "spleen"]
        for segment, found in enumerate(case.findings):
            assert np.array_equal(found.mask, turn(masks[number, ..., segment]))
            assert found.mask is not None
            assert found.box == outer_box(found.mask)


def test_several_segmentations_add_up_and_images_without_one_stay_as_they_are(tmp_path: Path) -> None:
    images = [stored(ORIENTATIONS["as shown"], number) for number in range(3)]
    masks = some_masks(2, 1)
    write(
        tmp_path, images, segmentation(images[:2], masks, ["liver"]), segmentation(images[1:2], masks[1:], ["spleen"])
    )
    cases = cases_of(source(), tmp_path)
    assert [[found.label.en for found in case.findings] for case in cases] == [["liver"], ["liver", "spleen"], []]
    assert [case.task for case in cases] == ["seg", "seg", "cls"]


def test_labels_are_those_of_the_recipe_or_of_the_vocabulary_and_no_other_text(tmp_path: Path) -> None:
    images = [stored(ORIENTATIONS["as shown"])]
    write(tmp_path, images, segmentation(images, some_masks(1, 1), ["John Doe's tumor"]))
    (refused,) = [
        outcome
        for item in list_items(source(), tmp_path)
        for outcome in read_item(source(), tmp_path, item)
        if isinstance(outcome, Rejected) and outcome.outcome == "quarantined"
    ]
    assert "neither `labels` nor the vocabulary" in refused.reason
    assert "John" not in refused.reason
    named = source(labels={"John Doe's tumor": "liver tumor"})
    (case,) = cases_of(named, tmp_path)
    assert [found.label.en for found in case.findings] == ["liver tumor"]


def test_frames_are_taken_as_the_recipe_wants(tmp_path: Path) -> None:
    ds = image(Rows=4, Columns=5, NumberOfFrames=6, WindowCenter=500, WindowWidth=1000)
    ds.PixelData = np.random.default_rng(0).integers(0, 1000, (6, 4, 5), np.uint16).tobytes()
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)

    def frames(wanted: Any) -> list[str]:
        return [case.item.partition("@frame=")[2] for case in cases_of(source(frames=wanted), tmp_path)]

    assert frames("middle") == ["3"]
    assert frames("all") == ["0", "1", "2", "3", "4", "5"]
    assert frames(2) == ["1", "4"]
    assert frames(99) == frames("all")
    pixels = [case.pixels for case in cases_of(source(frames="all"), tmp_path)]
    raw = dcmread(tmp_path / "a.dcm").pixel_array
    for shown, stored_frame in zip(pixels, raw, strict=True):
        assert np.abs(np.clip((stored_frame - 499.5) / 999 + 0.5, 0, 1) * 255 - shown).max() < 1
