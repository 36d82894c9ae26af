"""NIfTI volumes: the same body in any storage order, the chosen slices, windows, and every reason to turn one away."""

import gzip

import nibabel
import numpy as np
import pytest
from test_sources_geometry import stored_as

from gmai_vl.records import Case
from gmai_vl.sources import VolumeSource, list_items, read_item

SPACING = (1.0, 2.0, 3.0)


def source(**keys):
    return VolumeSource.model_validate(
        {
            "format": "volume",
            "name": "v",
            "root": ".",
            "modality": "CT",
            "images": "images/*.nii.gz",
            "masks": "labels/{stem}.nii.gz",
            "mask_labels": {1: "liver", 2: "spleen"},
            **keys,
        }
    )


def write(path, values, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*SPACING, 1]) if affine is None else affine), path)


@pytest.fixture
def body():
    """A body [X, Y, Z] in RAS+ with a liver at the right and a spleen at the left, and noise as image."""
    labels = np.zeros((12, 14, 10), dtype=np.uint8)
    labels[8:11, 3:9, 2:7] = 1
    labels[1:4, 4:7, 3:6] = 2
    return np.random.default_rng(0).normal(0, 300, labels.shape).astype(np.float32), labels


def put(root, image, labels, affine=None):
    write(root / "images/a.nii.gz", image, affine)
    write(root / "labels/a.nii.gz", labels, affine)


def read(root, **keys):
    return read_item(source(**keys), root, "images/a.nii.gz")


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SRA", "IPL"])
def test_every_storage_order_shows_the_same_slices(tmp_path, body, codes):
    put(tmp_path, *(body[0], body[1]))
    expected = read(tmp_path)
    image, affine = stored_as(codes, body[0], SPACING)
    labels, _ = stored_as(codes, body[1], SPACING)
    put(tmp_path / codes, image, labels, affine)
    found = read(tmp_path / codes)
    assert [case.item for case in found] == [case.item for case in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        assert [(f.label, f.box, f.side) for f in ours.findings] == [(f.label, f.box, f.side) for f in theirs.findings]
        assert ours.spacing_mm == theirs.spacing_mm
        assert ours.plane == theirs.plane


def test_right_is_shown_left_front_up_and_head_up(tmp_path, body):
    put(tmp_path, *body)
    cases = {case.item.split("@")[1]: case for case in read(tmp_path, slices_per_axis=1, window=[-1000, 1000])}
    assert set(cases) == {"axial=3", "coronal=4", "sagittal=8"}
    axial, coronal, sagittal = cases["axial=3"], cases["coronal=4"], cases["sagittal=8"]
    # The liver fills x 8-10 of 12, y 3-8 of 14, z 2-6 of 10; the spleen x 1-3, y 4-6, z 3-5.
    assert [(f.label.en, f.box, f.side) for f in axial.findings] == [
        ("liver", (1, 5, 4, 11), "left"),
        ("spleen", (8, 7, 11, 10), "right"),
    ]
    assert [f.box for f in coronal.findings] == [(1, 3, 4, 8), (8, 4, 11, 7)]
    assert [f.box for f in sagittal.findings] == [(5, 3, 11, 8)]
    assert (axial.spacing_mm, coronal.spacing_mm, sagittal.spacing_mm) == ((2, 1), (3, 1), (3, 2))
    grey = np.rint(np.clip((body[0] + 1000) / 2000, 0, 1) * 255)
    for y, x in [(0, 0), (2, 9), (13, 11)]:
        assert axial.pixels[y, x] == grey[11 - x, 13 - y, 3]
    assert (axial.dimension, axial.task, axial.patient_id) == ("3d", "seg", "images/a.nii.gz")


def test_the_largest_slices_are_chosen_and_ties_go_to_the_lower_index(tmp_path):
    labels = np.zeros((5, 5, 6), dtype=np.uint8)
    for index, side in enumerate([0, 2, 3, 1, 3, 3]):
        labels[:side, :1, index] = 1
    put(tmp_path, np.zeros(labels.shape, np.int16), labels)
    for count, chosen in [(1, [2]), (2, [2, 4]), (4, [1, 2, 4, 5]), (9, [1, 2, 3, 4, 5])]:
        items = [case.item for case in read(tmp_path, axes=["axial"], slices_per_axis=count)]
        assert items == [f"images/a.nii.gz@axial={index}" for index in chosen]


def test_without_a_window_the_percentiles_of_the_volume_are_black_and_white(tmp_path, body):
    put(tmp_path, *body)
    low, high = np.percentile(body[0], [0.5, 99.5])
    (case,) = read(tmp_path, axes=["axial"], slices_per_axis=1)
    expected = np.clip((body[0][::-1, ::-1, 3].T - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(case.pixels, expected, atol=0.51)


def test_parts_under_min_area_are_counted(tmp_path, body):
    image, labels = body
    labels[0, 0, 3] = 1
    put(tmp_path, image, labels)
    case, dropped = read(tmp_path, axes=["axial"], slices_per_axis=1, components=True, min_area=0.01)
    assert isinstance(case, Case)
    assert [f.label.en for f in case.findings] == ["liver", "spleen"]
    assert (dropped.outcome, dropped.item) == ("excluded", "images/a.nii.gz@axial=3@label=1")


def test_the_patient_can_be_named(tmp_path, body):
    write(tmp_path / "images/p7_t1.nii.gz", body[0])
    write(tmp_path / "labels/p7_t1.nii.gz", body[1])
    spec = source(patient={"regex": r"(p\d+)_", "of": "name"})
    assert list_items(spec, tmp_path) == ["images/p7_t1.nii.gz"]
    assert {case.patient_id for case in read_item(spec, tmp_path, "images/p7_t1.nii.gz")} == {"p7"}


def damage(name):
    """Return a function that spoils the files that `body` was written to."""

    def spoil(root, image, labels):
        images, masks = root / "images/a.nii.gz", root / "labels/a.nii.gz"
        if name == "truncated image":
            images.write_bytes(images.read_bytes()[:3000])
        elif name == "truncated plain mask":
            whole = gzip.decompress(masks.read_bytes())
            masks.unlink()
            (root / "labels/a.nii").write_bytes(whole[:900])
        elif name == "text":
            images.write_bytes(b"hello")
        elif name == "no mask":
            masks.unlink()
        elif name == "shape":
            write(masks, labels[:-1])
        elif name == "place":
            write(masks, labels, np.diag([*SPACING, 1]) + np.eye(4, k=3) * 9)
        elif name == "unknown value":
            write(masks, labels + (labels == 2) * np.uint8(5))
        elif name == "fractions":
            write(masks, labels.astype(np.float32) + 0.25)
        elif name == "empty":
            write(masks, labels * 0)
        elif name == "not finite":
            image[0, 0, 0] = np.nan
            write(images, image)
        elif name == "four axes":
            write(images, np.stack([image, image], axis=-1))
        elif name == "no orientation":
            stored = nibabel.Nifti1Image(image, None)
            stored.header.set_zooms(SPACING)
            nibabel.save(stored, images)
        elif name == "huge":
            header = bytearray(gzip.decompress(images.read_bytes()))
            header[40:48] = np.array([3, 30000, 30000, 30000], dtype="<i2").tobytes()
            images.write_bytes(gzip.compress(bytes(header)))

    return spoil


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated image", "a.nii.gz"),
        ("truncated plain mask", "cut short or damaged"),
        ("text", "header"),
        ("no mask", "labels/a.nii.gz"),
        ("shape", "12 x 14 x 10 voxels, but its label volume labels/a.nii.gz is 11 x 14 x 10"),
        ("place", "elsewhere"),
        ("unknown value", "mask value 7"),
        ("fractions", "no integers"),
        ("empty", "none of the labels"),
        ("not finite", "not finite"),
        ("four axes", "12 x 14 x 10 x 2"),
        ("no orientation", "orientation"),
        ("huge", "more than the limit"),
    ],
)
def test_every_fault_is_quarantined_with_its_reason(tmp_path, body, name, reason):
    put(tmp_path, *body)
    assert len(read(tmp_path)) == 9
    damage(name)(tmp_path, *body)
    masks = "labels/{stem}.nii" if "plain" in name else "labels/{stem}.nii.gz"
    (rejected,) = read(tmp_path, masks=masks)
    assert rejected.outcome == "quarantined"
    assert reason in rejected.reason
    assert str(tmp_path) not in rejected.reason
    assert "\n" not in rejected.reason
