"""The vocabulary: complete taxonomies, Chinese for every name, and what may be true at the same time."""

import csv
import re
from importlib.resources import files

import pytest

from gmai_vl.foundation import UserError
from gmai_vl.vocabulary import (
    CLINICAL_TASKS,
    DEPARTMENTS,
    GRANULARITIES,
    MODALITIES,
    Term,
    akin,
    branch,
    branch_of,
    clinical_task,
    department,
    may_come_with,
    modality,
    overlap,
    siblings,
    term,
)

ROWS = list(csv.DictReader((files("gmai_vl.vocabulary") / "terms.csv").read_text(encoding="utf-8").splitlines()))
TAXONOMIES = {"modality", "department", "clinical task", "granularity"}


def test_taxonomies_have_their_published_sizes():
    assert [len(names) for names in (MODALITIES, DEPARTMENTS, CLINICAL_TASKS, GRANULARITIES)] == [13, 18, 18, 4]


@pytest.mark.parametrize(
    ("look_up", "name"),
    [
        (modality, "Infrared Reflectance Imaging"),
        (department, "Otolaryngology (ENT)/Head and Neck Surgery"),
        (department, "Gastroenterology and Hepatology"),
        (clinical_task, "Organ Recognition - Head and Neck"),
    ],
)
def test_names_are_written_as_published_and_found_in_any_case(look_up, name):
    assert look_up(name.upper()).en == name


def test_every_name_has_chinese_without_stray_latin():
    for row in ROWS:
        latin = re.findall(r"[A-Za-z]+", row["zh"])
        assert row["zh"].strip() == row["zh"] != "", row
        assert latin in ([], ["CT"], ["X"]), row
        assert latin == ["CT"] or re.search(r"[\u4e00-\u9fff]", row["zh"]), row


def test_names_are_unique_in_a_branch_and_mean_the_same_in_every_branch():
    seen = set()
    chinese: dict[str, str] = {}
    for row in ROWS:
        key = (row["branch"], row["en"].lower())
        assert key not in seen
        seen.add(key)
        assert chinese.setdefault(row["en"].lower(), row["zh"]) == row["zh"]


def test_two_names_of_a_branch_never_read_alike_in_chinese():
    for name in {row["branch"] for row in ROWS}:
        entries = branch(name)
        assert len({entry.zh for entry in entries}) == len(entries), name


def test_whatever_a_term_lies_within_is_a_term():
    names = {row["en"].lower() for row in ROWS}
    for row in ROWS:
        assert {part.lower() for part in row["within"].split(";") if part} <= names - {row["en"].lower()}, row


def test_overlap_is_symmetric_and_ends():
    entries = [Term(row["en"], row["zh"]) for row in ROWS]
    for one in entries[::7]:
        assert overlap(one, one)
        for other in entries:
            assert overlap(one, other) == overlap(other, one)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("lower-grade glioma", "brain tumor", True),  # over glioma
        ("left kidney", "kidney", True),
        ("left kidney", "right kidney", False),
        ("glioma", "meningioma", False),
        ("kidney left", "left kidney", True),  # the same words
        ("liver cyst", "liver", True),
        ("small unknown thing", "unknown thing", True),
        ("lung nodule", "pleural effusion", False),
        ("Pathology", "Microscopy", True),
        ("knee", "extremity", True),
        ("knee", "chest", False),
    ],
)
def test_overlap_knows_parts_kinds_and_shared_words(one, other, expected):
    assert overlap(Term(one), Term(other)) is expected


@pytest.mark.parametrize(
    ("label", "given", "expected"),
    [
        ("brain tumor", "glioma", True),
        ("glioma", "brain tumor", True),  # the annotator may have left the kind open
        ("liver", "liver cyst", True),  # a cyst lies in a liver
        ("liver cyst", "liver", False),  # but a liver may have none
        ("right kidney", "kidney cyst", True),
        ("kidney cyst", "right kidney", False),
        ("meningioma", "glioma", False),
        ("odd thing", "very odd thing", True),
        ("thing with dots", "thing", False),
    ],
)
def test_what_may_be_true_beside_an_annotation_though_it_is_not_annotated(label, given, expected):
    assert may_come_with(term(label), term(given)) is expected


def test_akin_are_names_of_one_kind_of_thing():
    assert akin(term("blood cell"), term("neutrophil")) and akin(term("odd polyp"), term("polyp"))
    assert not akin(term("liver"), term("liver cyst")) and not akin(term("glioma"), term("meningioma"))


def test_siblings_share_the_branch_and_leave_out_the_term_itself():
    label = term("Glioma")
    assert branch_of(label) == "brain finding"
    assert set(siblings(label)) == set(branch("brain finding")) - {label}
    assert siblings(term("no such label")) == ()


def test_an_unknown_label_is_a_term_without_chinese_and_an_unknown_modality_an_error():
    assert term("RBC-like thing") == Term("RBC-like thing", None)
    with pytest.raises(ValueError, match="no Chinese name"):
        term("RBC-like thing").in_language("zh")
    with pytest.raises(UserError, match="did you mean `Ultrasound`"):
        modality("ultrasonud")
