"""Real public questions and volumes, where they are there: held against the raw files by another way."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from test_sources_real_data import box_of, folder_of
from test_sources_volume_formats import write

from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import TextSource, VolumeSource, list_items, read_item

RECIPES = Path(__file__).parents[1] / "recipes/data"
AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}


def recipe_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / f"{name}.yaml").read_text())


def read_all(spec: Any, root: Path) -> tuple[list[Case], list[Rejected]]:
    found = [each for item in list_items(spec, root) for each in read_item(spec, root, item)]
    return [each for each in found if isinstance(each, Case)], [each for each in found if isinstance(each, Rejected)]


def test_every_row_of_vqa_rad_is_a_question_or_counted() -> None:
    root = folder_of("vqa_rad")
    spec = TextSource.model_validate(recipe_of("vqa-rad")["sources"][0])
    cases, rejected = read_all(spec, root)
    raw = json.loads((root / spec.annotations).read_text())
    train = [row for row in raw if row["phrase_type"] in ("freeform", "para")]
    assert (len(raw), len({row["image_name"] for row in raw})) == (1578, 219)
    assert len(cases) == len({row["image_name"] for row in train}) == 218

    def triple(image: str, question: Any, answer: Any) -> tuple[str, str, str]:
        return image, str(question).strip(), str(answer).strip()

    wanted = Counter(triple(row["image_name"], row["question"], row["answer"]) for row in train)
    found = Counter(
        triple(Path(case.item).name, each.turns[0].text, each.turns[1].text)
        for case in cases
        for each in case.conversations
    )
    assert found == Counter(set(wanted))
    reasons = {each.item.partition("@")[2]: each for each in rejected}
    assert reasons.pop("phrase_type=test_freeform").reason == "226 rows are not in `where`"
    assert reasons.pop("phrase_type=test_para").reason == "105 rows are not in `where`"
    assert len(reasons) == len(train) - len(set(wanted)) == 3
    assert all(each.reason.startswith("asks and answers the same as") for each in reasons.values())


def test_a_corpus_of_vqa_rad_holds_what_it_promises(tmp_path: Path) -> None:
    root = folder_of("vqa_rad")
    recipe = recipe_of("vqa-rad")
    recipe["sources"][0] |= {"root": str(root), "limit": 40}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    built = build(tmp_path / "r.yaml", tmp_path / "out")
    assert verify(built.corpus) == []
    kinds = Counter(sample.kind for sample in Corpus(built.corpus).samples())
    assert kinds.keys() == {"closed", "open"}


def test_organs_of_a_ct_with_its_window() -> None:
    root = folder_of("totalsegmentator_ct_mr_3d")
    spec = VolumeSource.model_validate(recipe_of("totalsegmentator")["sources"][0])
    cases, rejected = read_all(spec, root)
    assert len(cases) == 24
    assert all("cover less than `min_area`" in each.reason for each in rejected)
    names = json.loads((root / "labels.json").read_text())["example_seg.nii.gz"]
    image, labels = nibabel.load(root / spec.images), nibabel.load(root / "example_seg.nii.gz")
    grey, label = (np.asarray(nibabel.as_closest_canonical(each).dataobj) for each in (image, labels))
    for case in cases:
        plane, index = case.item.partition("@")[2].split("=")
        shown = label.take(int(index), axis=AXIS[plane])[::-1, ::-1].T
        values = grey.take(int(index), axis=AXIS[plane])[::-1, ::-1].T
        np.testing.assert_allclose(case.pixels, np.clip((values + 160.0) / 400, 0, 1) * 255, atol=0.51)
        large = [value for value in np.unique(shown) if value and (shown == value).mean() >= spec.min_area]
        assert {int(finding.source_label): finding.box for finding in case.findings} == {
            value: box_of(shown == value) for value in large
        }
        assert {finding.source_label for finding in case.findings} <= names.keys()


@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_the_same_ct_in_another_format_and_with_a_file_for_each_organ(tmp_path: Path, ending: str) -> None:
    root = folder_of("totalsegmentator_ct_mr_3d")
    whole = VolumeSource.model_validate(recipe_of("totalsegmentator")["sources"][0])
    image, labels = nibabel.load(root / whole.images), nibabel.load(root / "example_seg.nii.gz")
    stored = np.asarray(labels.dataobj)
    write(tmp_path / f"s1/ct.{ending}", np.asarray(image.dataobj, dtype=np.float32), image.affine)
    for value in np.unique(stored):
        if value:
            write(tmp_path / f"s1/segmentations/{value:.0f}.{ending}", (stored == value).astype(np.uint8), image.affine)
    keys = {"images": f"s1/ct.{ending}", "masks": f"{{parent}}/segmentations/*.{ending}", "mask_label": r"^(\d+)$"}
    terms = {str(value): label for value, label in recipe_of("totalsegmentator")["sources"][0]["mask_labels"].items()}
    apart = whole.model_dump(exclude={"mask_labels", "key", "labels"}) | keys | {"labels": terms}
    found, _ = read_all(VolumeSource.model_validate(apart), tmp_path)
    wanted, _ = read_all(whole, root)
    assert [case.item.partition("@")[2] for case in found] == [case.item.partition("@")[2] for case in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        assert ours.spacing_mm == pytest.approx(theirs.spacing_mm)
        for case in (ours, theirs):
            assert case.findings
        assert {(f.label, f.box, f.area_share, f.side) for f in ours.findings} == {
            (f.label, f.box, f.area_share, f.side) for f in theirs.findings
        }


@pytest.mark.parametrize("ending", ["mhd", "nrrd"])
def test_hippocampus_in_another_format(tmp_path: Path, ending: str) -> None:
    root = folder_of("msd_hippocampus_3d")
    keys = {
        "format": "volume",
        "name": "msd",
        "root": ".",
        "modality": "MR",
        "mask_labels": {1: "anterior hippocampus", 2: "posterior hippocampus"},
    }
    for path in sorted((root / "imagesTr").glob("*.nii.gz"))[:3]:
        for folder in ("imagesTr", "labelsTr"):
            stored = nibabel.load(root / folder / path.name)
            write(tmp_path / folder / path.name.replace("nii.gz", ending), np.asarray(stored.dataobj), stored.affine)
    nifti = VolumeSource(**keys, images="imagesTr/*.nii.gz", masks="labelsTr/{stem}.nii.gz")
    other = VolumeSource(**keys, images=f"imagesTr/*.{ending}", masks=f"labelsTr/{{stem}}.{ending}")
    found, rejected = read_all(other, tmp_path)
    assert not rejected
    assert len(found) == 27
    by_item = {case.item: case for item in list_items(nifti, root)[:3] for case in read_item(nifti, root, item)}
    for case in found:
        theirs = by_item[case.item.replace(f".{ending}@", ".nii.gz@")]
        np.testing.assert_array_equal(case.pixels, theirs.pixels)
        assert [(f.label, f.box) for f in case.findings] == [(f.label, f.box) for f in theirs.findings]
