"""Facts about several findings and measurements: true by another way, silent in doubt, and falsehoods found."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writing_cases import GRADES, abdomen, box_finding, chest, graded, mask_finding, rectangle, slices

from gmai_vl.records import Turn
from gmai_vl.vocabulary import Term, term
from gmai_vl.writing import check_sample, facts_of, measured, prompt_texts, write_samples
from gmai_vl.writing.laterality import own_side
from gmai_vl.writing.measures import area_term, length_number, longest_diameter

ALL = ("caption", "percept", "instruct")
FURTHER = (
    "laterality", "relation", "contact", "largest", "closest", "tally", "among", "diameter", "area", "extent",
)  # fmt: skip


def write(case, seed=0, language="en", subsets=ALL, answer_with="letter"):
    return write_samples(case, seed=seed, languages={language: 1.0}, subsets=subsets, answer_with=answer_with)


def sample_of(form, case, language="en", kind=None, said="", subsets=ALL):
    for seed in range(400):
        for sample in write(case, seed, language, subsets):
            fits = sample.provenance.facts["form"] == form and (kind is None or sample.kind == kind)
            if fits and re.search(said, sample.turns[-1].text):
                return sample
    raise AssertionError(f"no {form}")


def saying(sample, text):
    return replace(sample, turns=(*sample.turns[:-1], Turn("assistant", (text,))))


def failures(sample, case):
    return {name for name, result in check_sample(sample, case).items() if result is not True}


# Every sample of every case


@given(slices(), st.integers(0, 50), st.sampled_from(["en", "zh"]))
@settings(max_examples=40, deadline=None)
def test_what_was_measured_for_one_text_judges_the_next_as_if_measured_anew(case, seed, language):
    kept = measured(case)
    for sample in write(case, seed, language):
        for number in ("", "7"):  # as it is, and with other numbers
            said = re.sub(r"\d+", lambda match, number=number: match[0] + number, sample.turns[-1].text)
            assert check_sample(saying(sample, said), kept) == check_sample(saying(sample, said), case)


@given(slices(), st.integers(0, 50), st.sampled_from(["en", "zh"]))
@settings(max_examples=80, deadline=None)
def test_whatever_a_slice_holds_what_is_written_passes_its_checks_and_its_prompt_is_known(case, seed, language):
    texts = prompt_texts()
    for sample in write(case, seed, language):
        assert set(sample.provenance.checks.values()) == {True}
        turns = sample.provenance.facts.get("turns", [sample.provenance.facts])
        for asked, turn in zip(sample.turns[::2], turns, strict=True):
            pattern = re.sub(r"\\{\w+\\}", ".*", re.escape(texts[turn["prompt_id"]]))
            assert re.fullmatch(pattern, asked.text, re.DOTALL), (asked.text, turn["prompt_id"])


def test_further_questions_are_few_and_every_form_of_them_is_asked():
    case = abdomen(findings=(*abdomen().findings, rectangle("pancreas", (44, 62, 54, 66))))
    forms = Counter()
    for seed in range(60):
        samples = write(case, seed)
        forms.update(sample.provenance.facts["form"] for sample in samples)
        forms.update(turn["form"] for sample in samples for turn in sample.provenance.facts.get("turns", ()))
        asked = [sample for sample in samples if sample.provenance.facts["form"] in FURTHER and sample.kind != "open"]
        assert len(asked) <= 2
    assert set(FURTHER) - {"closest"} <= set(forms)
    assert {"grade", "severity"} <= {s.provenance.facts["form"] for s in write(graded(), subsets=("percept",))}


# Measurements


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.2, 0.7, 1.0, 3.3]), st.sampled_from([0.2, 1.0, 2.5]))
def test_the_longest_diameter_of_a_rectangle_is_its_diagonal(width, height, row_mm, column_mm):
    mask = np.zeros((40, 40), bool)
    mask[3 : 3 + height, 5 : 5 + width] = True
    assert longest_diameter(mask, row_mm, column_mm) == pytest.approx(np.hypot(width * column_mm, height * row_mm))


def test_without_a_pitch_or_a_mask_nothing_is_measured():
    assert all(finding.measures is None for finding in facts_of(abdomen(spacing_mm=None)).findings)
    boxed = abdomen(findings=(box_finding("spleen", (75, 40, 90, 60)),), task="det")
    assert facts_of(boxed).findings[0].measures is None
    for case in (abdomen(spacing_mm=None), boxed):
        for seed in range(30):
            assert not any(re.search(r"\dmm|\d mm|cm²", turn.text) for s in write(case, seed) for turn in s.turns)


def test_what_is_small_or_in_pieces_is_not_measured():
    two = np.zeros((100, 100), bool)
    two[10:20, 10:20] = two[40:50, 40:50] = True
    findings = (rectangle("liver cyst", (10, 10, 12, 30)), mask_finding(term("spleen"), two))
    assert [finding.measures for finding in facts_of(abdomen(findings=findings)).findings] == [None, None]


@pytest.mark.parametrize(
    ("millimetres", "tenths", "said"),
    [(4.26, True, "4.3"), (4.26, False, "4"), (12.6, True, "13"), (230.4, False, "230")],
)
def test_lengths_are_said_as_exactly_as_they_are_known(millimetres, tenths, said):
    assert length_number(millimetres, tenths) == said


@pytest.mark.parametrize(
    ("area", "said"),
    [(4.26, "4.3 mm²"), (45.4, "45 mm²"), (99.6, "1.0 cm²"), (345.0, "3.5 cm²"), (1234.0, "12 cm²"),
     (12_340, "120 cm²")],
)  # fmt: skip
def test_areas_have_two_digits_and_the_unit_that_fits(area, said):
    assert area_term(area).en == said


@given(st.integers(3, 60), st.integers(3, 60), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_wrong_measurements_are_far_from_the_right_one(width, height, seed):
    case = abdomen(findings=(rectangle("liver", (5, 5, 5 + width, 5 + height)),))
    for sample in write(case, seed, subsets=("percept",)):
        if sample.provenance.facts["form"] in ("diameter", "area"):
            values = {
                letter: float(text.split()[0]) * (100 if "cm" in text else 1) for letter, text in sample.options.items()
            }
            right = values.pop(sample.answer)
            true = (
                np.hypot(width, height) * 3.5
                if sample.provenance.facts["form"] == "diameter"
                else width * height * 3.5**2
            )
            assert right == pytest.approx(true, rel=0.06)
            assert all(max(value / right, right / value) > 1.25 for value in values.values())


# Relations


def pair(case, subject, other):
    return next((p for p in facts_of(case).pairs if (p.subject.en, p.other.en) == (subject, other)), None)


@pytest.mark.parametrize(
    ("box", "direction"),
    [
        ((10, 40, 20, 60), "to the left of it"),
        ((80, 42, 90, 58), "to the right of it"),
        ((40, 5, 60, 15), "above it"),
        ((45, 80, 55, 90), "below it"),
        ((10, 10, 20, 20), None),  # oblique
        ((30, 45, 45, 55), None),  # run into each other
        ((36, 10, 44, 90), None),  # side by side, but hardly apart and the centre of the other is no higher
    ],
)
def test_a_direction_is_told_where_it_is_the_only_one(box, direction):
    found = (rectangle("liver cyst", box), rectangle("spleen", (40, 40, 60, 60)))
    told = pair(abdomen(findings=found, spacing_mm=None), "liver cyst", "spleen")
    if direction is None:
        assert told is None or told.direction is None
    else:
        assert told.direction.en == direction


@pytest.mark.parametrize(
    ("one", "other", "contact"),
    [
        (rectangle("liver cyst", (30, 30, 40, 40)), rectangle("spleen", (20, 20, 60, 60)), "inside it"),
        (
            rectangle("liver cyst", (30, 30, 40, 40)),
            rectangle("spleen", (20, 20, 60, 60), hole=(30, 30, 40, 40)),
            "surrounded by it",
        ),
        (rectangle("liver cyst", (10, 30, 30, 50)), rectangle("spleen", (20, 20, 60, 60)), "partly overlapping it"),
        (rectangle("liver cyst", (10, 30, 20, 50)), rectangle("spleen", (20, 20, 60, 60)), "touching it from outside"),
        (rectangle("liver cyst", (5, 5, 10, 10)), rectangle("spleen", (20, 20, 60, 60)), "apart from it"),
        (rectangle("liver cyst", (10, 30, 18, 50)), rectangle("spleen", (20, 20, 60, 60)), None),  # a gap of 2 pixels
        (rectangle("liver cyst", (10, 57, 20, 61)), rectangle("spleen", (20, 20, 60, 60)), None),  # touch in 3 pixels
        (rectangle("liver cyst", (19, 20, 40, 40)), rectangle("spleen", (20, 20, 60, 60)), None),  # nearly inside
    ],
)
def test_contact_is_told_where_no_few_pixels_decide(one, other, contact):
    told = pair(abdomen(findings=(one, other)), "liver cyst", "spleen")
    assert (told and told.contact and told.contact.en) == contact


def test_boxes_alone_tell_no_contact_and_kinds_of_one_thing_no_relation():
    boxes = (box_finding("lung nodule", (10, 40, 20, 60)), box_finding("pleural effusion", (40, 40, 60, 60)))
    told = pair(chest(findings=boxes), "lung nodule", "pleural effusion")
    assert told.contact is None and told.direction.en == "to the left of it"
    kidneys = (rectangle("kidney", (10, 40, 20, 60)), rectangle("left kidney", (40, 40, 60, 60)))
    assert facts_of(abdomen(findings=kidneys)).pairs == ()


# The patient's sides


@pytest.mark.parametrize(
    ("changes", "sides"),
    [
        ({}, ["right", "right", "left"]),
        ({"plane": "coronal"}, ["right", "right", "left"]),
        ({"plane": "sagittal"}, [None, None, None]),
        ({"plane": None}, [None, None, None]),
        ({"body_part": term("colon")}, [None, None, None]),  # does not say that both sides are in view
        ({"body_part": None}, [None, None, None]),
        ({"spacing_mm": None}, [None, None, None]),
        ({"spacing_mm": (3.5, 1.0)}, [None, None, None]),  # 100 mm of an abdomen
    ],
)
def test_sides_of_the_patient_are_told_of_whole_slices_only(changes, sides):
    assert [finding.laterality for finding in facts_of(abdomen(**changes)).findings] == sides


def test_a_thing_near_the_middle_or_in_it_by_nature_has_no_side():
    found = (rectangle("spleen", (55, 40, 70, 60)), rectangle("aorta", (70, 40, 80, 60)))
    assert [finding.laterality for finding in facts_of(abdomen(findings=found)).findings] == [None, None]


def test_a_label_with_a_side_is_never_contradicted_and_silences_a_turned_picture():
    cyst = rectangle("kidney cyst", (10, 40, 20, 50))
    right, left = rectangle("right kidney", (15, 60, 25, 80)), rectangle("left kidney", (15, 60, 25, 80))
    assert facts_of(abdomen(findings=(cyst, right))).findings[0].laterality == "right"
    assert [f.laterality for f in facts_of(abdomen(findings=(cyst, left))).findings] == [None, None]
    assert facts_of(abdomen(findings=(cyst, right))).findings[1].laterality is None
    assert [own_side(Term(*names)) for names in (("left kidney", None), ("x", "右肾"), ("leftover", None))] == [
        "left", "right", None,
    ]  # fmt: skip


# Grades


@pytest.mark.parametrize("grade", range(4))
def test_the_grade_is_compared_with_every_other_in_the_given_order(grade):
    answers = {}
    for seed in range(60):
        for sample in write(graded(grade), seed, subsets=("percept",)):
            told = sample.provenance.facts
            if told["form"] == "severity":
                answers[told["claim"]] = sample.answer
            if told["form"] == "grade":
                assert sample.options[sample.answer] == GRADES[grade].en
    names = [each.en for each in GRADES]
    assert answers == {name: "yes" if place < grade else "no" for place, name in enumerate(names) if place != grade}


def test_no_grade_is_told_where_several_are_given_or_none():
    assert facts_of(graded(findings=())).grade is None
    both = (*graded(1).findings, *graded(2).findings)
    assert facts_of(graded(findings=both)).grade is None
    assert facts_of(graded(severity=())).grade is None


# Falsehoods


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("form", "case"),
    [
        ("laterality", abdomen()),
        ("relation", abdomen()),
        ("contact", abdomen()),
        ("largest", abdomen()),
        ("tally", abdomen()),
        ("diameter", abdomen()),
        ("area", abdomen()),
        ("grade", graded()),
        ("closest", abdomen(findings=(*abdomen().findings, rectangle("pancreas", (60, 44, 70, 56))))),
    ],
)
def test_any_other_option_is_wrong(form, case, language):
    sample = sample_of(form, case, language, "mcq")
    for letter in set(sample.options) - {sample.answer}:
        assert "answer" in failures(saying(sample, letter), case)
        told = replace(sample.provenance, facts=sample.provenance.facts | {"letter": letter})
        assert "answer" in failures(replace(saying(sample, letter), provenance=told), case)
    assert not failures(sample, case)


@pytest.mark.parametrize(("form", "case"), [("laterality", abdomen()), ("severity", graded())])
def test_the_other_of_yes_and_no_is_wrong(form, case):
    sample = sample_of(form, case, kind="closed")
    assert failures(saying(sample, {"yes": "no", "no": "yes"}[sample.answer]), case) == {"answer"}


@pytest.mark.parametrize(
    ("form", "forged"),
    [
        ("diameter", lambda right: f"{float(right.split()[0]) * 1.1:.0f} mm"),
        ("area", lambda right: f"{float(right.split()[0]) * 0.9:.1f} cm²"),
        ("contact", lambda right: "partly overlapping it"),  # what is inside overlaps too
        ("grade", lambda right: "moderate to severe"),
        ("largest", lambda right: "right kidney"),  # is not there at all
    ],
)
def test_an_option_that_could_be_right_is_no_distractor(form, forged):
    nested = (rectangle("liver cyst", (30, 30, 40, 40)), rectangle("spleen", (20, 20, 60, 60)))
    case = abdomen(findings=nested)
    if form == "grade":
        case = graded(severity=(*GRADES, Term("moderate to severe")))
    sample = sample_of(form, case, kind="mcq")
    letter = next(letter for letter in sample.options if letter != sample.answer)
    options = sample.options | {letter: forged(sample.options[sample.answer])}
    asked = sample.turns[0].text.replace(f"{letter}. {sample.options[letter]}\n", f"{letter}. {options[letter]}\n")
    told = replace(sample.provenance, facts=sample.provenance.facts | {"options": options})
    forged_sample = replace(sample, turns=(Turn("user", (asked,)), sample.turns[1]), provenance=told)
    assert failures(forged_sample, case) == {"distractors"}


CAPTIONS = [
    ("en", "A liver cyst is seen, measuring 35 x 28 mm.", set()),
    ("en", "A liver cyst is seen, measuring 35 x 35 mm.", {"measures"}),
    ("en", "A liver cyst is seen, measuring 35 x 28 cm.", {"numbers"}),
    ("en", "A liver cyst is seen, about 35 mm wide and 29 mm high.", {"measures"}),
    ("en", "A liver cyst is seen, with a longest diameter of 45 mm.", set()),
    ("en", "A liver cyst is seen, with a longest diameter of 46 mm.", {"measures"}),
    ("en", "A liver cyst is seen, with an area of 9.8 cm².", set()),
    ("en", "A liver cyst is seen, with an area of 9.8 mm².", {"measures"}),
    ("en", "A liver cyst is seen, covering about 12% of the image.", {"measures"}),
    ("en", "The liver covers about 12% of the image.", set()),
    ("en", "A liver cyst is seen on the patient's right.", set()),
    ("en", "A liver cyst is seen on the patient's left.", {"laterality"}),
    ("en", "A liver cyst is seen. It lies on the patient's left.", {"laterality"}),
    ("en", "A liver cyst is seen, surrounded by the liver.", set()),
    ("en", "A liver cyst is seen, apart from the liver.", {"relations"}),
    ("en", "A liver cyst is seen, to the left of the spleen in the image.", set()),
    ("en", "A liver cyst is seen, to the right of the spleen in the image.", {"relations"}),
    ("en", "A liver cyst is seen, anterior to the spleen.", {"relations"}),
    ("en", "A liver cyst is seen in the middle right of the image.", {"positions"}),
    ("en", "A hepatic cyst is seen in the middle left of the image.", set()),
    ("en", "A liver cyst is seen, large relative to the image.", {"sizes"}),
    ("en", "A single liver cyst is seen.", set()),
    ("en", "2 liver cysts are seen.", {"numbers"}),
    ("en", "A coronal image shows a liver cyst.", {"planes"}),
    ("en", "An MR image shows a liver cyst.", {"modalities"}),
    ("zh", "可见肝囊肿，大小约35×28毫米。", set()),
    ("zh", "可见肝囊肿，大小约28×35毫米。", {"measures"}),
    ("zh", "可见肝囊肿，宽约35毫米、高约30毫米。", {"measures"}),
    ("zh", "可见肝囊肿，最长径约54毫米。", {"measures"}),
    ("zh", "可见肝囊肿，截面积约9.8平方毫米。", {"measures"}),
    ("zh", "可见肝囊肿，位于患者左侧。", {"laterality"}),
    ("zh", "可见肝囊肿，位于患者右侧。", set()),
    ("zh", "可见肝囊肿，被肝脏包绕，在图像上位于脾脏的左侧。", set()),
    ("zh", "可见肝囊肿，与肝脏分离。", {"relations"}),
    ("zh", "可见肝囊肿，在图像上位于脾脏的右侧。", {"relations"}),
    ("zh", "可见肝脏囊肿，位于图像右侧中部。", {"positions"}),
    ("zh", "可见一个肝囊肿，范围较大。", {"sizes"}),
    ("zh", "腹部CT冠状面图像。可见肝囊肿。", {"planes"}),
]


@pytest.mark.parametrize(("language", "statement", "expected"), CAPTIONS)
def test_a_statement_of_a_caption_must_be_true_of_what_it_is_said_of(language, statement, expected):
    case = abdomen()
    rest = " The liver and the spleen are seen." if language == "en" else "可见肝脏和脾脏。"
    told = statement + rest if "iver cyst" in statement or "hepatic" in statement or "囊肿" in statement else (
        "A liver cyst and the spleen are seen. " + statement
    )  # fmt: skip
    assert failures(saying(sample_of("caption", case, language), told), case) == expected


def test_values_exchanged_between_two_findings_are_noticed():
    found = (box_finding("lung nodule", (10, 10, 20, 20)), box_finding("pleural effusion", (60, 60, 95, 90)))
    case = chest(findings=found)
    sample = sample_of("caption", case)
    true = "An X-ray image. A lung nodule lies in the upper left. A pleural effusion lies in the lower right."
    assert not failures(saying(sample, true), case)
    swapped = true.replace("upper left", "X").replace("lower right", "upper left").replace("X", "lower right")
    assert failures(saying(sample, swapped), case) == {"positions"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_false_relation_in_a_dialogue_is_noticed(language):
    case = abdomen()
    exchange = {"en": [("left of", "right of"), ("apart from", "inside")], "zh": [("左侧", "右侧"), ("分离", "相接")]}
    for seed in range(300):
        for sample in write(case, seed, language, ("instruct",)):
            for number, turn in enumerate(sample.provenance.facts.get("turns", ())):
                said = sample.turns[2 * number + 1].text
                for old, new in exchange[language]:
                    if turn["form"] in ("relation", "contact") and old in said:
                        turns = list(sample.turns)
                        turns[2 * number + 1] = Turn("assistant", (said.replace(old, new),))
                        assert f"{number}.answer" in failures(replace(sample, turns=tuple(turns)), case)
                        return
    raise AssertionError("no relation was told")


def test_an_absent_label_is_found_by_its_other_name_too():
    case = chest(modality="Microscopy", findings=(box_finding("platelet", (10, 10, 20, 20)),), body_part=term("blood"),
                 label_set=(term("platelet"), term("red blood cell")))  # fmt: skip
    sample = sample_of("caption", case)
    assert failures(saying(sample, "A microscopy image showing a thrombocyte."), case) == set()
    assert failures(saying(sample, "A platelet and an erythrocyte."), case) == {"nothing-invented"}


def test_a_question_must_name_what_it_compares():
    sample = sample_of("relation", abdomen())
    question = Turn("user", (sample.turns[0].text.replace("spleen", "pancreas"),))
    assert failures(replace(sample, turns=(question, sample.turns[1])), abdomen()) >= {"asked"}


@given(slices())
def test_without_further_questions_the_core_is_as_it_was(case):
    def forms(further):
        samples = write_samples(case, seed=0, languages={"en": 1.0}, subsets=("percept",), further=further)
        return {sample.provenance.facts["form"]: sample.turns for sample in samples}

    core, both = forms(False), forms(True)
    assert not set(core) & set(FURTHER)
    assert core.items() <= both.items()
