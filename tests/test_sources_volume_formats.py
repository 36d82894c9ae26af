"""Volumes in every file format show the same cases; label volumes of one structure each; headers that are refused."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_sources_geometry import stored_as

from gmai_vl.foundation import UserError
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import VolumeSource, child, itk, list_items, read_item

SPACING = (1.0, 2.0, 3.0)
ENDINGS = ("nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr")
ORIENTATIONS = [
    "".join(letters[place] for letters, place in zip(order, flips, strict=True))
    for order in itertools.permutations(["RL", "AP", "SI"])
    for flips in itertools.product((0, 1), repeat=3)
]
LIVER, SPLEEN = 1, 2


def body() -> tuple[np.ndarray, np.ndarray]:
    """An image and its labels [X, Y, Z] in RAS+: a liver at the right, a spleen at the left."""
    labels = np.zeros((12, 14, 10), np.uint8)
    labels[8:11, 3:9, 2:7] = LIVER
    labels[1:4, 4:7, 3:6] = SPLEEN
    return np.random.default_rng(0).integers(-1000, 1000, labels.shape, np.int16), labels


def write(path: Path, stored: np.ndarray, affine: np.ndarray, *, compress: bool = False) -> None:
    """Write a volume [X, Y, Z] whose `affine` leads to RAS+ mm, in the format that the ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(stored, affine), path)
        return
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(stored.T))
    # SimpleITK's frame grows to the left and back: both coordinates change their signs.
    lps = affine[:3] * [[-1], [-1], [1]]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:, 3].tolist())
    image.SetDirection((lps[:, :3] / spacing).flatten().tolist())
    SimpleITK.WriteImage(image, path, compress)


def read(root: Path, ending: str, **keys: Any) -> list[Case | Rejected]:
    spec = {
        "format": "volume",
        "name": "v",
        "root": ".",
        "modality": "CT",
        "images": f"images/*.{ending}",
        "masks": f"labels/{{stem}}.{ending}",
        "mask_labels": {LIVER: "liver", SPLEEN: "spleen"},
        **keys,
    }
    source = VolumeSource.model_validate(spec)
    return [found for item in list_items(source, root) for found in read_item(source, root, item)]


def put(root: Path, ending: str, codes: str = "RAS", *, compress: bool = False) -> None:
    for folder, values in zip(("images", "labels"), body(), strict=True):
        stored, affine = stored_as(codes, values, SPACING)
        write(root / folder / f"a.{ending}", stored, affine, compress=compress)


def shown(cases: list[Case | Rejected]) -> list[Any]:
    """Return all that two formats must agree in."""
    assert all(isinstance(case, Case) for case in cases), cases
    return [
        (
            case.item.partition("@")[2],
            case.pixels.tobytes(),
            case.plane,
            case.spacing_mm,
            [(f.label.en, f.source_label, f.box, f.area_share, f.side, f.mask.tobytes()) for f in case.findings],
        )
        for case in cases
        if isinstance(case, Case)
    ]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    root = tmp_path_factory.mktemp("ras")
    put(root, "nii")
    return shown(read(root, "nii"))


@settings(max_examples=24, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(ORIENTATIONS), st.sampled_from(ENDINGS), st.booleans())
def test_every_format_and_storage_order_gives_equal_cases(
    tmp_path_factory: pytest.TempPathFactory, expected: list[Any], codes: str, ending: str, compress: bool
) -> None:
    root = tmp_path_factory.mktemp("stored")
    put(root, ending, codes, compress=compress)
    assert shown(read(root, ending)) == expected


def test_there_are_forty_eight_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


def test_the_label_volume_may_have_another_format(tmp_path: Path, expected: list[Any]) -> None:
    put(tmp_path, "mha")
    put(tmp_path, "nrrd")
    assert shown(read(tmp_path, "mha", masks="labels/{stem}.nrrd")) == expected


@pytest.mark.parametrize("ending", ["nii", "mha"])
@pytest.mark.parametrize(("degrees", "plane"), [(0, "axial"), (15, "axial"), (30, None), (45, None)])
def test_slices_of_an_oblique_volume_have_no_plane(tmp_path: Path, ending: str, degrees: float, plane: str) -> None:
    turn = np.eye(4)
    angle = np.radians(degrees)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for folder, values in zip(("images", "labels"), body(), strict=True):
        write(tmp_path / folder / f"a.{ending}", values, turn @ np.diag([*SPACING, 1]))
    (case,) = read(tmp_path, ending, axes=["axial"], slices_per_axis=1)
    assert isinstance(case, Case)
    assert (case.item, case.plane) == (f"images/a.{ending}@axial=3", plane)


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_every_kind_of_number_reads_alike(tmp_path: Path, expected: list[Any], kind: Any, ending: str) -> None:
    image, labels = body()
    write(tmp_path / f"images/a.{ending}", image.astype(np.float32), np.diag([*SPACING, 1]))
    write(tmp_path / f"labels/a.{ending}", labels.astype(kind), np.diag([*SPACING, 1]))
    found, wanted = shown(read(tmp_path, ending, window=[-1000, 1000])), expected
    assert [each[4] for each in found] == [each[4] for each in wanted]


@pytest.mark.parametrize(("slope", "intercept"), [(2.5, -7.0), (0.1, 0.0), (1.0, -1024.0)])
def test_scaled_values_are_those_of_nibabel(tmp_path: Path, slope: float, intercept: float) -> None:
    image, labels = body()
    stored = nibabel.Nifti1Image(image, np.diag([*SPACING, 1]))
    stored.header.set_slope_inter(slope, intercept)
    (tmp_path / "images").mkdir()
    nibabel.save(stored, tmp_path / "images/a.nii")
    write(tmp_path / "labels/a.nii", labels, np.diag([*SPACING, 1]))
    values = nibabel.load(tmp_path / "images/a.nii").get_fdata(dtype=np.float64)
    low, high = np.percentile(values.astype(np.float32), [0.5, 99.5])
    (case,) = read(tmp_path, "nii", axes=["axial"], slices_per_axis=1)
    assert isinstance(case, Case)
    wanted = np.clip((values[::-1, ::-1, 3].T - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(case.pixels, wanted, atol=0.51)


STRUCTURES = {
    "liver": (slice(8, 11), slice(3, 9), slice(2, 7)),
    "liver_tumor": (slice(9, 10), slice(4, 6), slice(3, 5)),
}
PER_FILE = {
    "images": "*/ct.nii.gz",
    "masks": "{parent}/segmentations/*.nii.gz",
    "mask_labels": {},
    "mask_label": r"^(\w+)$",
    "labels": {"liver": "liver", "liver_tumor": "liver tumor", "spleen": "spleen", "vessel": None},
}


def put_structures(root: Path, structures: dict[str, Any]) -> None:
    image, _ = body()
    write(root / "s1/ct.nii.gz", image, np.diag([*SPACING, 1]))
    for name, place in structures.items():
        mask = np.zeros(image.shape, np.uint8)
        mask[place] = 255
        write(root / f"s1/segmentations/{name}.nii.gz", mask, np.diag([*SPACING, 1]))


def test_structures_in_files_of_their_own_may_overlap(tmp_path: Path) -> None:
    put_structures(tmp_path, {**STRUCTURES, "spleen": (slice(0, 0),), "vessel": (slice(0, 3),)})
    (case,) = read(tmp_path, "nii.gz", axes=["axial"], slices_per_axis=1, **PER_FILE)
    assert isinstance(case, Case)
    assert case.item == "s1/ct.nii.gz@axial=2"  # excluded structures do not count: all slices of the liver are equal
    (case,) = read(tmp_path, "nii.gz", axes=["sagittal"], slices_per_axis=2, **PER_FILE)[1:]
    assert isinstance(case, Case)
    assert [(f.label.en, f.source_label, f.box) for f in case.findings] == [
        ("liver", "liver", (5, 3, 11, 8)),
        ("liver tumor", "liver_tumor", (8, 5, 10, 7)),
    ]
    assert case.findings[0].mask[5:7, 8:10].all()  # the tumor does not bite into the liver
    assert {term.en for term in case.label_set} == {"liver", "liver tumor", "spleen"}


def test_slices_are_chosen_by_the_area_of_all_structures_together(tmp_path: Path) -> None:
    put_structures(
        tmp_path, {"liver": (slice(0, 4), slice(0, 4), slice(2, 4)), "spleen": (slice(2, 6), slice(0, 4), 3)}
    )
    (case,) = read(tmp_path, "nii.gz", axes=["axial"], slices_per_axis=1, **PER_FILE)
    assert case.item == "s1/ct.nii.gz@axial=3"


def test_components_and_min_area_hold_for_structures_too(tmp_path: Path) -> None:
    put_structures(tmp_path, {"liver": (slice(0, 12, 4), slice(0, 4), slice(2, 4)), "spleen": (0, 0, 2)})
    case, dropped = read(
        tmp_path, "nii.gz", axes=["axial"], slices_per_axis=1, components=True, min_area=0.01, **PER_FILE
    )
    assert isinstance(case, Case)
    assert [finding.label.en for finding in case.findings] == ["liver"] * 3
    assert dropped.item == "s1/ct.nii.gz@axial=2@label=spleen"


@pytest.mark.parametrize(
    ("structures", "keys", "words"),
    [
        ({"gland": (0,)}, {}, "label `gland` is not in the recipe"),
        (STRUCTURES, {"mask_label": r"_(\d+)$"}, "is not found in the name of its mask"),
        (STRUCTURES, {"mask_label": None, "mask_labels": {255: "liver"}}, "2 label volumes match `masks`"),
        ({"liver": (slice(0, 0),)}, {}, "none of the labels"),
        ({"vessel": (0,)}, {}, "none of the labels"),
    ],
)
def test_structures_that_cannot_be_named_are_told(
    tmp_path: Path, structures: dict[str, Any], keys: dict[str, Any], words: str
) -> None:
    put_structures(tmp_path, structures)
    (rejected,) = read(tmp_path, "nii.gz", **PER_FILE | keys)
    assert isinstance(rejected, Rejected)
    assert words in rejected.reason


def test_layers_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmai_vl.sources.volume.MAX_LAYER_BYTES", 12 * 14 * 10)
    put_structures(tmp_path, STRUCTURES)
    (rejected,) = read(tmp_path, "nii.gz", **PER_FILE)
    assert isinstance(rejected, Rejected)
    assert "over each other" in rejected.reason


def refused(root: Path, ending: str) -> str:
    (rejected,) = read(root, ending)
    assert isinstance(rejected, Rejected)
    assert rejected.outcome == "quarantined"
    assert "\n" not in rejected.reason
    assert str(root) not in rejected.reason
    return rejected.reason


@pytest.mark.parametrize("ending", ["mhd", "mha", "nhdr", "nrrd"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("/etc/hostname", "no path below"),
        ("../../secret.raw", "leads out"),
        ("link.raw", "leads out"),
        ("absent.raw", "is no file"),
        ("LIST", "several files"),
        ("s%03d.raw 1 3 1", "several files"),
        ("x\\a.raw", "no path below"),
        ("", "no path below"),
    ],
)
def test_a_header_may_name_no_data_elsewhere(tmp_path: Path, ending: str, data: str, words: str) -> None:
    root, detached = tmp_path / "root", "mhd" if ending.startswith("m") else "nhdr"
    put(root, ending)
    put(root, detached)
    (tmp_path / "secret.raw").write_bytes((root / "images/a.raw").read_bytes())
    (root / "images/link.raw").symlink_to(tmp_path / "secret.raw")
    header = (root / f"images/a.{detached}").read_text()
    changed = header.replace("ElementDataFile = a.raw", f"ElementDataFile = {data}")
    changed = changed.replace("data file: a.raw", f"data file: {data}")
    assert changed != header
    (root / f"images/a.{ending}").write_text(changed)
    assert words in refused(root, ending)


@pytest.mark.parametrize(
    ("ending", "old", "new", "words"),
    [
        ("mhd", "NDims = 3", "NDims = 4", "4 axes"),
        ("mhd", "NDims = 3", "NDims = 99999999", "99999999 axes"),
        ("mhd", "TransformMatrix = ", "Foo = ", "orientation"),
        ("mhd", "ElementDataFile = a.raw", "", "not `Key = value`"),
        ("mhd", "ElementType", "ElementDataFile : /etc/passwd\nElementType", "not `Key = value`"),
        ("mhd", "DimSize = 12 14 10", "DimSize = 4000 4000 4000", "more than the limit"),
        ("mhd", "DimSize = 12 14 10", "DimSize = 12 14 11", "12 x 14 x 11"),
        ("mhd", "DimSize = 12 14 10", "DimSize = 12 14", "images/a.mhd"),
        ("mhd", "DimSize", "ElementNumberOfChannels = 3\nDimSize", "3 values a voxel"),
        ("nhdr", "dimension: 3", "dimension: 2", "2 axes"),
        ("nhdr", "space: left-posterior-superior", "space: scanner-xyz", "orientation"),
        ("nhdr", "space: left-posterior-superior\n", "", "orientation"),
        ("nhdr", "sizes: 12 14 10", "sizes: 4000 4000 4000", "more than the limit"),
        ("nhdr", "(1,0,0)", "(nan,0,0)", "images/a.nhdr"),
        ("nhdr", "NRRD", "NRDR", "no NRRD file"),
        ("nhdr", "type: short", "type: short\nfoo", "not `field: value`"),
        ("nhdr", "(1,0,0)", "(0,0,0)", "images/a.nhdr"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, ending: str, old: str, new: str, words: str) -> None:
    put(tmp_path, ending)
    header = tmp_path / f"images/a.{ending}"
    text = header.read_text().replace("(-1,0,0)", "(1,0,0)")
    assert old in text
    header.write_text(text.replace(old, new))
    assert words in refused(tmp_path, ending)


@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd", "nhdr"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_cut_file_is_refused(tmp_path: Path, ending: str, compress: bool) -> None:
    put(tmp_path, ending, compress=compress)
    data = next(path for path in (tmp_path / "images").iterdir() if ending in ("mha", "nrrd") or "raw" in path.name)
    data.write_bytes(data.read_bytes()[:-100])
    assert "cut short or damaged" in refused(tmp_path, ending)


def test_a_child_that_ends_ends_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "mha")
    monkeypatch.setattr(itk, "ask", lambda module, request: child.ask("no_such_module", request))
    assert "the decoder broke down" in refused(tmp_path, "mha")
    monkeypatch.undo()
    assert len(read(tmp_path, "mha")) == 9


def test_the_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "mha")
    monkeypatch.setattr(itk, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package `SimpleITK`; run `pip install 'gmai-vl\[sources\]'`"):
        read(tmp_path, "mha")


LARGE = """
import sys
from pathlib import Path
from gmai_vl.sources import VolumeSource, read_item
spec = VolumeSource(format="volume", name="v", root=".", modality="CT", images="a.nii", masks="{stem}_seg.nii",
    mask_labels={1: "liver"})
assert len(read_item(spec, Path(sys.argv[1]), "a.nii")) == 9
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


@pytest.mark.long
def test_a_large_ct_stays_under_two_gigabytes(tmp_path: Path) -> None:
    labels = np.zeros((512, 512, 600), np.uint8)
    labels[100:200, 100:200, 100:300] = 1
    write(tmp_path / "a_seg.nii", labels, np.diag([*SPACING, 1]))
    write(tmp_path / "a.nii", labels.astype(np.int16) * 99, np.diag([*SPACING, 1]))
    # Another process: this one has held the volume to write it. Its peak in KiB is its own, without that of this one.
    done = subprocess.run([sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 2_000_000_000
