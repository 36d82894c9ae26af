"""Real images out of installed packages, and the reader of DICOM held against all the files that ship with pydicom."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gmai_vl.foundation import UserError
from gmai_vl.records import Case
from gmai_vl.sources import DicomSource, EmbeddedSource, embedded, list_items, read_item

pytest.importorskip("nilearn", reason="the package `nilearn` with the MNI brain is not installed")
pytest.importorskip("data_store", reason="the package `pydicom-data` is not installed")
pytest.importorskip("skimage", reason="the package `scikit-image` is not installed")


def source(**keys):
    return EmbeddedSource.model_validate({"format": "embedded", "name": "real", **keys})


def cases(spec):
    return [case for item in list_items(spec, Path("/")) for case in read_item(spec, Path("/"), item)]


@pytest.fixture(scope="module")
def everything():
    return cases(source(slices_per_axis=2))


def test_every_item_becomes_cases_with_licence_and_patient(everything):
    assert all(isinstance(case, Case) for case in everything)
    assert all(case.license and case.url and case.patient_id for case in everything)
    assert {case.modality for case in everything} >= {"CT", "MR", "Ultrasound", "X-Ray", "Pathology", "Microscopy"}
    assert len({case.case_id for case in everything}) == len(everything)
    pictures = [case for case in everything if case.plane != "sagittal"]  # the MNI brain is its own mirror image
    assert len({case.image_sha256 for case in pictures}) == len(pictures)
    patients = {case.patient_id for case in everything if case.item.startswith("nilearn")}
    assert patients == {"mni152"}


def test_the_brain_is_cut_where_it_is_largest_and_shown_as_stored(everything):
    folder = Path(find_spec("nilearn").submodule_search_locations[0], "datasets/data")
    t1, gm, wm = (
        nibabel.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") for name in ("t1", "gm", "wm")
    )
    assert nibabel.aff2axcodes(t1.affine) == ("R", "A", "S")
    gray, white = (np.asarray(tissue.dataobj) > 0.5 * np.asarray(tissue.dataobj).max() for tissue in (gm, wm))
    area = (gray | white).sum(axis=(0, 1))
    axial = [case for case in everything if case.plane == "axial" and case.item.startswith("nilearn")]
    assert len(axial) == 2
    assert area.argmax() in {int(case.item.split("=")[1]) for case in axial}
    for case in axial:
        index = int(case.item.split("=")[1])
        assert [finding.label.en for finding in case.findings] == ["gray matter", "white matter"]
        np.testing.assert_array_equal(case.findings[1].mask, white[::-1, ::-1, index].T)
        assert case.body_part.en == "brain"
        assert np.corrcoef(case.pixels.ravel(), np.asarray(t1.dataobj)[::-1, ::-1, index].T.ravel())[0, 1] > 0.99


def test_the_packages_are_not_imported():
    code = (
        "import sys; from pathlib import Path; from gmai_vl.sources import *;"
        "s = EmbeddedSource(format='embedded', name='a'); list_items(s, Path('/'));"
        "print(sorted({'nilearn', 'skimage', 'data_store', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_told_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr(embedded, "ITEMS", {**embedded.ITEMS, "skimage": ("no_such_package_here/a.png",)})
    with pytest.raises(UserError, match=r"pip install 'gmai-vl\[embedded\]'"):
        list_items(source(collections=["skimage"]), Path("/"))


@pytest.mark.parametrize("package", ["pydicom/data/test_files", "data_store/data"])
def test_every_dicom_file_of_the_packages_is_a_case_or_a_reason(package):
    name, _, inner = package.partition("/")
    root = Path(find_spec(name).submodule_search_locations[0], inner)
    spec = DicomSource(format="dicom", name="d", root=".", modality="MR")
    small = [item for item in list_items(spec, root) if (root / item).stat().st_size < 2_000_000]
    results = {item: read_item(spec, root, item)[0] for item in small}
    # Each is the same picture in another encoding.
    for group in (
        ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm"),
        ("US1_UNCR.dcm", "US1_J2KR.dcm"),
        ("emri_small.dcm", "emri_small_RLE.dcm", "emri_small_jpeg_ls_lossless.dcm"),
    ):
        found = [results[item].image_sha256 for item in group if item in results]
        assert len(set(found)) <= 1
    reasons = {item: result.reason for item, result in results.items() if not isinstance(result, Case)}
    assert all(reasons.values())
    # JPEG of 12 bits is read by a decoder under the GPL only.
    undecoded = {item for item, reason in reasons.items() if "decoded" in reason}
    assert undecoded <= {"JPEG-lossy.dcm", "JPGExtended.dcm"}
