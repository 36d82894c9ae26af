"""The annotation of phantom cases is exact, complete and the same in every process."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from gmai_vl.foundation import UserError
from gmai_vl.records import Case
from gmai_vl.sources import list_items, read_item
from gmai_vl.sources.phantom import FAMILIES
from gmai_vl.sources.spec import PhantomSource
from gmai_vl.vocabulary import clinical_task, department, modality, term

PICTURES = [name for name, family in FAMILIES.items() if not family.volume]
VOLUMES = [name for name, family in FAMILIES.items() if family.volume]
HERE = Path("/")


def source(*families: str, patients: int = 10, **keys: int) -> PhantomSource:
    return PhantomSource(name="cohort", format="phantom", families=families, patients=patients, **keys)


@cache
def cases(family: str) -> list[Case]:
    spec = source(family, patients=4 if FAMILIES[family].volume else 16, size=128)
    read = [found for item in list_items(spec, HERE) for found in read_item(spec, HERE, item)]
    assert all(isinstance(found, Case) for found in read)
    return read


def lesions(case: Case) -> list:
    family = FAMILIES[case.item.partition("/")[0]]
    return [finding for finding in case.findings if finding.label in family.lesions]


def test_items_are_sorted_and_counted_per_family():
    spec = source("fundus", "brain-mr", patients=3)
    assert list_items(spec, HERE) == [f"{name}/p000{n}" for name in ("brain-mr", "fundus") for n in range(3)]
    assert len(list_items(source(patients=2), HERE)) == 2 * len(FAMILIES)


def test_an_unknown_family_is_named_with_its_neighbour():
    with pytest.raises(UserError, match=r"cohort.*`fundis`.*`fundus`"):
        list_items(source("fundis"), HERE)


@pytest.mark.parametrize("name", FAMILIES)
def test_names_stand_in_the_vocabulary_in_both_languages(name):
    family = FAMILIES[name]
    assert modality(family.modality).en == family.modality
    assert department(family.department).en == family.department
    assert clinical_task(family.clinical_task).en == family.clinical_task
    for label in (*family.terms, family.body_part):
        assert label.zh, f"{label.en} has no Chinese name"
        assert term(label.en) == label


@pytest.mark.parametrize("name", FAMILIES)
def test_boxes_shares_and_sides_follow_from_the_mask(name):
    for case in cases(name):
        for finding in case.findings:
            assert finding.mask.shape == case.pixels.shape[:2]
            rows, columns = np.nonzero(finding.mask)
            assert finding.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert finding.area_share == pytest.approx(len(rows) / (case.width * case.height))
            if finding.side == "left":
                assert columns.max() < case.width / 2
            if finding.side == "right":
                assert columns.min() >= case.width / 2


@pytest.mark.parametrize("name", FAMILIES)
def test_a_case_has_one_kind_of_lesion_each_in_one_piece_apart_from_the_others(name):
    for case in cases(name):
        found = lesions(case)
        assert len({finding.label for finding in found}) == (0 if case.negative else 1)
        assert len(found) <= 5
        union = np.zeros(case.pixels.shape[:2], bool)
        for finding in found:
            assert not (union & finding.mask).any()
            union |= finding.mask
        _, pieces = ndimage.label(union, np.ones((3, 3)))
        assert pieces == len(found)
        assert min((finding.area_share for finding in found), default=0.01) >= 0.0025
        assert union.mean() < 0.3


@pytest.mark.parametrize("name", FAMILIES)
def test_findings_are_of_the_label_set_and_negatives_have_no_lesion(name):
    family = FAMILIES[name]
    for case in cases(name):
        assert {finding.label for finding in case.findings} <= set(case.label_set) <= set(family.terms)
        assert set(family.lesions) <= set(case.label_set)
        assert (case.negative is not None) == (not lesions(case))


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_and_a_fair_share_of_healthy_patients_is_in_a_small_cohort(name):
    family = FAMILIES[name]
    labels = [lesions(case)[0].label if lesions(case) else None for case in cases(name)]
    assert set(labels) - {None} == set(family.lesions)
    healthy = labels.count(None) / len(labels)
    assert healthy == 0 if family.healthy_share == 0 else 0.2 <= healthy <= 0.35


@pytest.mark.parametrize("name", VOLUMES)
def test_slices_of_a_volume_name_their_plane_and_pitch_and_share_a_patient(name):
    for case in cases(name):
        plane, _, index = case.item.partition("@")[2].partition("=")
        assert case.dimension == "3d"
        assert case.plane == plane
        assert int(index) >= 0
        assert case.patient_id == case.item.partition("@")[0].replace("/", "-")
        # The image spans a body of plausible size.
        assert 150 < case.spacing_mm[0] * case.height < 400
    planes = [case.plane for case in cases(name) if case.patient_id == cases(name)[0].patient_id]
    assert planes.count("axial") == planes.count("coronal") == planes.count("sagittal") == 2


def test_the_patients_right_is_on_the_image_left():
    sides = {"liver": set(), "spleen": set(), "right kidney": set(), "left kidney": set()}
    for case in cases("abdomen-ct"):
        for finding in case.findings:
            if case.plane != "sagittal" and finding.label.en in sides:
                columns = np.nonzero(finding.mask)[1]
                sides[finding.label.en].add("left" if columns.mean() < case.width / 2 else "right")
    assert sides == {"liver": {"left"}, "right kidney": {"left"}, "spleen": {"right"}, "left kidney": {"right"}}


def test_the_front_is_up_in_axial_and_left_in_sagittal_slices_and_the_head_is_up():
    def middle(case, label):
        (finding,) = [finding for finding in case.findings if finding.label.en == label]
        rows, columns = np.nonzero(finding.mask)
        return columns.mean() / case.width, rows.mean() / case.height

    shown = [case for case in cases("abdomen-ct") if {"liver", "right kidney"} <= {f.label.en for f in case.findings}]
    assert {case.plane for case in shown} == {"axial", "coronal", "sagittal"}
    for case in shown:
        (liver_x, liver_y), (kidney_x, kidney_y) = middle(case, "liver"), middle(case, "right kidney")
        if case.plane == "sagittal":
            assert liver_x < kidney_x  # the kidney lies behind the liver
        assert liver_y < kidney_y  # and below it


def test_size_slices_and_recipe_keys_are_honoured():
    (picture,) = read_item(source("fundus", size=96), HERE, "fundus/p0001")
    assert picture.pixels.shape == (96, 96, 3)
    spec = PhantomSource(
        name="c", format="phantom", slices_per_axis=1, size=64, license="CC0-1.0", url="https://x", department="Urology"
    )
    shown = read_item(spec, HERE, "abdomen-ct/p0002")
    assert [case.plane for case in shown] == ["axial", "coronal", "sagittal"]
    assert {case.pixels.shape for case in shown} == {(64, 64)}
    assert {(case.license, case.url, case.department) for case in shown} == {("CC0-1.0", "https://x", "Urology")}


def test_patients_and_seeds_differ():
    spec, other = source("dermoscopy", size=64), source("dermoscopy", size=64, seed=1)
    images = [read_item(s, HERE, f"dermoscopy/p000{n}")[0].image_sha256 for s in (spec, other) for n in range(3)]
    assert len(set(images)) == 6


HASHES = """
from pathlib import Path
from gmai_vl.sources import read_item
from gmai_vl.sources.phantom import FAMILIES
from gmai_vl.sources.spec import PhantomSource
spec = PhantomSource(name="cohort", format="phantom", seed=7, size=96, slices_per_axis=1)
for name in {order}(FAMILIES):
    for case in read_item(spec, Path("/"), f"{{name}}/p0003"):
        print(case.item, case.image_sha256, [finding.box for finding in case.findings])
"""


def test_the_same_seed_gives_the_same_pixels_in_every_process_and_order():
    printed = [
        subprocess.run(
            [sys.executable, "-c", HASHES.format(order=order)],
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for order, seed, threads in (("sorted", "1", "1"), ("reversed", "2", "2"))
    ]
    assert len(printed[0].splitlines()) == len(PICTURES) + 3 * len(VOLUMES)
    assert sorted(printed[0].splitlines()) == sorted(printed[1].splitlines())
