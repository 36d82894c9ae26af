"""The check of a sample against its case: it must notice every kind of falsehood."""

from dataclasses import replace

import pytest
from writing_cases import box_finding, chest

from gmai_vl.records import Finding, Turn
from gmai_vl.vocabulary import Term, term
from gmai_vl.writing import check_sample, write_samples

CASE = chest(findings=(box_finding("lung nodule", (10, 10, 20, 20)), box_finding("pleural effusion", (60, 60, 95, 90))))


def sample_of(form, kind=None, language="en", case=CASE, subsets=("caption", "percept", "instruct"), said=""):
    for seed in range(200):
        for sample in write_samples(case, seed=seed, languages={language: 1.0}, subsets=subsets):
            fits = sample.provenance.facts["form"] == form and (kind is None or sample.kind == kind)
            if fits and said in sample.turns[-1].text:
                return sample
    raise AssertionError(f"no {form}")


def saying(sample, text):
    return replace(sample, turns=(*sample.turns[:-1], Turn("assistant", (text,))))


def failures(sample, case=CASE):
    return {name for name, result in check_sample(sample, case).items() if result is not True}


@pytest.mark.parametrize("form", ["modality", "body-part", "kind", "count", "size", "position", "region-kind"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_any_other_letter_is_wrong(form, language):
    sample = sample_of(form, "mcq", language)
    for letter in set("ABCDE") - {sample.answer}:
        assert "answer" in failures(saying(sample, letter))
    assert not failures(sample)


@pytest.mark.parametrize(
    ("form", "other"), [("presence", {"yes": "no", "no": "yes"}), ("side", {"yes": "no", "no": "yes"})]
)
def test_the_other_of_yes_and_no_is_wrong(form, other):
    sample = sample_of(form, "closed")
    assert failures(saying(sample, other[sample.answer])) == {"answer"}


def test_a_true_distractor_is_noticed():
    sample = sample_of("kind", "mcq", said="")
    true = {"lung nodule", "pleural effusion"}
    letter = next(k for k, text in sample.options.items() if text not in true)
    options = sample.options | {letter: next(iter(true - set(sample.options.values())))}
    asked = sample.turns[0].text.replace(sample.options[letter], options[letter])
    told = replace(sample.provenance, facts=sample.provenance.facts | {"options": options})
    forged = replace(sample, turns=(Turn("user", (asked,)), sample.turns[1]), provenance=told)
    assert failures(forged) == {"distractors"}


def test_a_distractor_that_no_annotator_looked_for_is_not_known_to_be_false():
    sample = sample_of("kind", "mcq")
    letter = next(k for k in sample.options if k != sample.answer)
    options = sample.options | {letter: "rib fracture"}
    asked = sample.turns[0].text.replace(sample.options[letter], "rib fracture")
    told = replace(sample.provenance, facts=sample.provenance.facts | {"options": options})
    assert failures(replace(sample, turns=(Turn("user", (asked,)), sample.turns[1]), provenance=told)) == {
        "distractors"
    }


def test_a_shifted_or_missing_box_is_wrong():
    sample = sample_of("grounding")
    assert failures(saying(sample, sample.answer.replace("0.", "0.1", 1))) == {"boxes"}
    assert failures(saying(sample, "no box")) == {"boxes"}


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "An X-ray image. 2 lung nodules and a pleural effusion.", {"numbers"}),
        ("en", "An X-ray image. A lung nodule is in the upper right; a pleural effusion.", {"positions"}),
        ("en", "An X-ray image. A large lung nodule and a pleural effusion.", {"sizes"}),
        ("en", "An X-ray image. A lung nodule, a pleural effusion and consolidation.", {"nothing-invented"}),
        ("en", "An X-ray image. A lung nodule.", {"complete"}),
        ("zh", "胸部X线图像。可见2处肺结节和胸腔积液。", {"numbers"}),
        ("zh", "胸部X线图像。右上部可见肺结节和胸腔积液。", {"positions"}),
        ("zh", "胸部X线图像。可见肺结节和胸腔积液，范围较大。", {"sizes"}),
        ("zh", "胸部X线图像。可见肺结节、胸腔积液和肺实变。", {"nothing-invented"}),
        ("zh", "胸部X线图像。可见肺结节。", {"complete"}),
        ("zh", "胸部X线图像。可见肺结节和胸腔积液. Normal", {"language"}),
    ],
)
def test_a_caption_must_be_whole_and_true(language, text, expected):
    case = chest(findings=(CASE.findings[0], box_finding("pleural effusion", (60, 60, 80, 80))))
    sample = sample_of("caption", language=language, case=case)
    assert failures(saying(sample, text), case) == expected


def test_a_region_caption_must_begin_rightly_and_speak_of_its_own_region():
    sample = sample_of("region-caption", said="upper left")
    assert "begins" in failures(saying(sample, "The region shows a lung nodule."))
    assert "positions" in failures(saying(sample, sample.turns[1].text.replace("upper left", "lower right")))


def test_a_false_turn_of_a_dialogue_is_named_by_its_number():
    sample = sample_of("dialogue")
    turns = list(sample.turns)
    for place in range(1, len(turns), 2):
        forged = [*turns[:place], Turn("assistant", ("Banana.",)), *turns[place + 1 :]]
        assert all(name.startswith(f"{place // 2}.") for name in failures(replace(sample, turns=tuple(forged))))
        assert failures(replace(sample, turns=tuple(forged)))


def test_a_sample_of_another_case_is_noticed():
    other = chest(modality="CT", findings=(), negative=term("no finding"), body_part=term("abdomen"))
    for form in ("modality", "body-part", "kind", "caption"):
        assert failures(sample_of(form), other), form
    assert failures(sample_of("presence", said="yes"), other)


def test_an_open_answer_names_all_that_is_there_and_nothing_else():
    sample = sample_of("kind", "open")
    assert failures(saying(sample, "lung nodule")) == {"answer"}
    assert failures(saying(sample, "pleural effusion, lung nodule, cough")) == {"answer"}
    assert not failures(saying(sample, "pleural effusion, lung nodule"))
    with_comma = chest(findings=(Finding(label=Term("a, b"), source_label="x"),), label_set=())
    assert not failures(sample_of("kind", "open", case=with_comma), with_comma)
