"""The template writer: true answers, false distractors, both languages, balance, and the same text every time."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writing_cases import box_finding, cases, chest

from gmai_vl.records import Finding, ImageRef
from gmai_vl.vocabulary import MODALITIES, Term, branch, may_come_with, overlap, term
from gmai_vl.writing import parse_boxes, prompt_texts, write_samples
from gmai_vl.writing.facts import POSITIONS

ALL = ("caption", "percept", "instruct")
LATIN_OR_ASCII_MARKS = re.compile(r"[A-Za-z]|[,.;:?!'\"()]")


def write(case, seed=0, languages=None, subsets=ALL):
    return write_samples(case, seed=seed, languages=languages or {"en": 1.0}, subsets=subsets)


def of_form(samples, form, kind=None):
    return [s for s in samples if s.provenance.facts["form"] == form and (kind is None or s.kind == kind)]


@given(cases(), st.integers(0, 5), st.sampled_from([{"en": 1.0}, {"zh": 1.0}, {"en": 0.5, "zh": 0.5}]))
@settings(max_examples=60, deadline=None)
def test_whatever_is_annotated_the_samples_are_well_formed_and_their_checks_hold(case, seed, languages):
    samples = write(case, seed, languages)
    assert len({sample.id for sample in samples}) == len(samples)
    assert of_form(samples, "caption")
    texts = prompt_texts()
    for sample in samples:
        assert sample.provenance.checks and set(sample.provenance.checks.values()) == {True}
        assert json.loads(json.dumps(sample.provenance.facts, allow_nan=False)) == sample.provenance.facts
        turns = sample.provenance.facts.get("turns", [{"prompt_id": sample.provenance.prompt_id}])
        assert {turn["prompt_id"] for turn in turns} <= set(texts)
        assert [turn.role for turn in sample.turns] == ["user", "assistant"] * (len(sample.turns) // 2)
        assert sample.turns[0].content[0] == ImageRef(0)
        assert all(isinstance(part, str) for turn in sample.turns[1:] for part in turn.content)
        assert sample.images == (case.image_sha256,)
        assert len(sample.id.split("#")) == 8 and "%" not in re.sub(r"%[0-9A-F]{2}", "", sample.id)
        if sample.kind in ("mcq", "closed", "open", "grounding"):
            assert sample.turns[-1].text == sample.answer
        if sample.kind == "dialogue":
            assert 6 <= len(sample.turns) <= 16


def test_wrong_body_parts_are_those_that_the_source_shows_elsewhere():
    shown = (term("chest"), term("abdomen"), term("skin"), term("colon"), term("fundus"))
    offered = set()
    for seed in range(20):
        (sample,) = of_form(write(chest(body_parts=shown), seed, subsets=("percept",)), "body-part")
        offered |= set(sample.options.values())
    assert offered == {part.en for part in shown}
    (sample,) = of_form(write(chest(body_parts=shown[:2]), subsets=("percept",)), "body-part")
    assert len(sample.options) == 4 and {"chest", "abdomen"} <= set(sample.options.values())


@given(cases(), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_no_wrong_option_is_true(case, seed):
    """By another way: an option is true if it is, or overlaps with, anything annotated."""
    labels = [finding.label for finding in case.findings]
    for sample in write(case, seed):
        if sample.kind != "mcq":
            continue
        form, wrong = sample.provenance.facts["form"], {t for k, t in sample.options.items() if k != sample.answer}
        assert sample.answer in sample.options and 2 <= len(sample.options) <= 4
        if form in ("kind", "region-kind"):
            may_be = may_come_with if form == "kind" else overlap
            assert not any(may_be(Term(text), label) for text in wrong for label in labels)
            assert labels or "no finding" not in wrong
        elif form == "modality":
            assert not any(overlap(Term(text), Term(case.modality)) for text in wrong)
        elif form == "body-part":
            assert not any(overlap(Term(text), case.body_part) for text in wrong)
        elif form == "count":
            assert str(sum(label.en == sample.provenance.facts["subject"] for label in labels)) not in wrong


@given(cases(), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_yes_and_no_agree_with_the_annotation(case, seed):
    given_labels = {finding.label.en for finding in case.findings}
    asked = of_form(write(case, seed), "presence")
    assert Counter(s.answer for s in asked).most_common(1)[:1] in ([], [("yes", 1)], [("no", 1)])
    for sample in asked:
        subject = sample.provenance.facts["subject"]
        assert (subject in given_labels) == (sample.answer == "yes")
        assert subject in sample.turns[0].text
        assert sample.answer == "yes" or subject in {label.en for label in case.label_set}


@given(cases(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_grounding_gives_every_box_of_the_label_once(case, seed):
    for sample in of_form(write(case, seed, {"zh": 1.0}), "grounding"):
        subject = sample.provenance.facts["subject"]
        own = [finding.box for finding in case.findings if finding.label.en == subject]
        read = parse_boxes(sample.answer)
        assert len(read) == len(own) <= 3
        size = (case.width, case.height, case.width, case.height)
        for box in own:
            errors = [max(abs(r - b / s) for r, b, s in zip(shares, box, size, strict=True)) for _, shares in read]
            assert min(errors) <= 0.005 + 1e-9


def test_equal_arguments_give_equal_samples_and_subsets_do_not_touch_each_other():
    case = chest()
    languages = {"en": 0.6, "zh": 0.4}
    assert write(case, 3, languages) == write(replace(case), 3, dict(reversed(languages.items())))
    texts = {subset: [s.turns for s in write(case, 3, languages) if s.subset == subset] for subset in ALL}
    for subset in ALL:
        assert [s.turns for s in write(case, 3, languages, [subset])] == texts[subset]
    assert [s.turns for s in write(case, 4, languages)] != [s.turns for s in write(case, 3, languages)]


def rich_case(number=0):
    """Return a case that allows every form."""
    found = (
        box_finding("lung nodule", (10, 10, 20, 20)),
        box_finding("pleural effusion", (60, 60, 95, 90)),
        box_finding("pneumothorax", (5, 40, 9, 50)),
        box_finding("pneumothorax", (50, 40, 59, 50)),
    )
    names = ("lung nodule", "pleural effusion", "pneumothorax", "consolidation", "cardiomegaly", "rib fracture")
    return chest(item=f"p{number}/a.png", findings=found, label_set=tuple(map(term, names)), plane="coronal")


def test_every_form_is_asked_and_each_at_most_once():
    forms = Counter(s.provenance.facts["form"] for s in write(rich_case(), subsets=["percept"]))
    core = ("modality", "plane", "body-part", "kind", "region-kind", "count", "size", "position", "side", "grounding")
    once = (*core, "tally")
    assert forms == dict.fromkeys(once, 1) | {"presence": 2}
    captions = Counter(s.provenance.facts["form"] for s in write(rich_case(), subsets=["caption"]))
    assert captions == {"caption": 1, "region-caption": 2}
    assert Counter(s.kind for s in write(rich_case(), subsets=["instruct"])) == {"dialogue": 1, "open": 1}


def test_right_letters_and_yes_and_no_are_balanced_and_questions_vary():
    cases_asked = 120
    samples = [sample for number in range(cases_asked) for sample in write(rich_case(number))]
    for form, letters in (("modality", "ABCD"), ("kind", "ABCD"), ("count", "ABCD"), ("plane", "ABC"), ("size", "ABC")):
        right = Counter(s.answer for s in of_form(samples, form, "mcq"))
        assert sorted(right) == list(letters)
        fair = 1 / len(letters)
        three_deviations = 3 * (cases_asked * fair * (1 - fair)) ** 0.5
        assert all(abs(count - cases_asked * fair) < three_deviations for count in right.values()), (form, right)
    assert Counter(s.answer for s in of_form(samples, "presence")) == {"yes": cases_asked, "no": cases_asked}
    sides = Counter(s.answer for s in of_form(samples, "side", "closed"))
    assert 0.3 < sides["yes"] / sides.total() < 0.7
    for form in ("modality", "plane", "kind", "side", "count", "size", "position", "caption", "region-caption"):
        assert len({s.provenance.prompt_id for s in of_form(samples, form)}) >= 5, form
    assert len({s.turns[1].text for s in of_form(samples, "caption")}) > 40


def test_the_languages_come_in_their_shares():
    samples = [s for n in range(100) for s in write(rich_case(n), languages={"en": 3, "zh": 1})]
    share = sum(s.language == "zh" for s in samples) / len(samples)
    assert 0.21 < share < 0.29
    by_form = Counter(s.provenance.facts["form"] for s in samples if s.language == "zh")
    assert len(by_form) == 16


def test_chinese_is_chinese():
    names = [entry.zh for entry in (*MODALITIES, *branch("body part"))]
    for number in range(60):
        for sample in write(rich_case(number), languages={"zh": 1.0}):
            assert sample.language == "zh"
            for turn in sample.turns:
                said = re.sub(r"</?ref>|<box>.*?</box>|^[A-D](\. |$)", "", turn.text, flags=re.MULTILINE)
                for name in names:
                    said = said.replace(name, "")
                assert not LATIN_OR_ASCII_MARKS.search(said), turn.text
                assert turn.role == "user" or re.search(r"[。是否]$|[\u4e00-\u9fff]$|^[A-D]$|^\d+$|</box>$", turn.text)


def test_without_a_chinese_name_the_sample_is_english_and_only_that_one():
    label = Term("unheard-of thing")
    case = chest(findings=(Finding(label=label, source_label="u"),), label_set=(label,))
    languages = {
        s.provenance.facts["form"]: s.language for s in write(case, languages={"zh": 1.0}, subsets=["percept"])
    }
    assert languages["presence"] == languages["kind"] == "en"
    assert languages["modality"] == languages["body-part"] == "zh"


def test_a_caption_tells_the_finding_before_the_organs_however_small():
    names = ("liver", "spleen", "left kidney", "right kidney", "stomach")
    organs = [box_finding(name, (10 * i, 10, 10 * i + 30, 60)) for i, name in enumerate(names)]
    case = chest(modality="CT", findings=(*organs, box_finding("liver cyst", (5, 5, 8, 8))), body_part=term("abdomen"))
    text = of_form(write(case), "caption")[0].turns[1].text.lower()
    assert text.index("a liver cyst") < min(text.index(name) for name in names[1:])
    assert all(name in text for name in names)


def test_region_captions_begin_as_published():
    for language, begins in (("en", "This region"), ("zh", "该区域")):
        for number in range(30):
            for sample in of_form(write(rich_case(number), languages={language: 1}), "region-caption"):
                assert sample.turns[1].text.startswith(begins)
                assert sample.granularity == "box" and len(sample.regions) == 1


def test_a_negative_says_so_and_its_finding_is_a_distractor_elsewhere():
    negative = chest(findings=(), negative=term("no finding"))
    right = {n: of_form(write(negative, n), "kind", "mcq")[0] for n in range(5)}
    assert all(sample.options[sample.answer] == "no finding" for sample in right.values())
    assert "abnormal" in of_form(write(negative), "caption")[0].turns[1].text
    assert "未见异常" in of_form(write(negative, languages={"zh": 1}), "kind", "mcq")[0].options.values()
    assert write(negative)[0].id == "2d#det#x-ray#s#p1#no finding#p1/a.png#0"
    positive = of_form(write(chest()), "kind", "mcq")[0]
    assert "no finding" in positive.options.values() and positive.options[positive.answer] == "lung nodule"


def test_neither_the_question_nor_its_options_tell_the_modality():
    for number in range(40):
        for sample in write(rich_case(number), subsets=["percept"]):
            asked = sample.turns[0].text.lower()
            if sample.provenance.facts["form"] == "modality":
                asked = asked.split("\na. ")[0]
            assert "x-ray" not in asked and "chest" not in asked.split("\na. ")[0]


def test_ids_escape_what_would_break_them():
    case = chest(
        source="a#b", item="50%/x\ny.png", findings=(*chest().findings, box_finding("consolidation", (50, 50, 60, 60)))
    )
    assert write(case)[2].id == "2d#det#x-ray#a%23b#50%25#consolidation+lung nodule#50%25/x%0Ay.png#2"


@pytest.mark.parametrize("box", [(10, 10, 20, 20), (60, 10, 90, 40), (40, 70, 55, 99)])
def test_position_side_and_size_are_those_of_the_box(box):
    samples = write(chest(findings=(box_finding("lung nodule", box),)), subsets=["percept"])
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    position = of_form(samples, "position")[0]
    assert position.options[position.answer] == POSITIONS[int(y * 3 // 100)][int(x * 3 // 100)].en
    share = (box[2] - box[0]) * (box[3] - box[1]) / 10_000
    size = of_form(samples, "size")[0]
    assert size.options[size.answer].split()[0] == ("small" if share < 0.02 else "medium" if share < 0.1 else "large")
    for sample in of_form(samples, "side", "mcq"):
        assert sample.options[sample.answer] == ("left half" if x < 50 else "right half")


def test_a_side_is_only_told_where_there_is_one():
    over_the_middle = chest(findings=(box_finding("lung nodule", (45, 10, 56, 20)),))
    two = chest(findings=(box_finding("lung nodule", (5, 5, 9, 9)), box_finding("lung nodule", (15, 5, 19, 9))))
    for case in (over_the_middle, two):
        assert not any(of_form(write(case, seed), "side") for seed in range(5))


@given(cases())
@settings(max_examples=40)
def test_answers_in_words_are_the_text_of_the_right_option(case):
    letters = write_samples(case, seed=0, languages={"en": 1.0}, subsets=("percept",))
    texts = write_samples(case, seed=0, languages={"en": 1.0}, subsets=("percept",), answer_with="text")
    assert [(s.id, s.options, s.answer) for s in letters] == [(s.id, s.options, s.answer) for s in texts]
    for letter, text in zip(letters, texts, strict=True):
        if letter.kind == "mcq":
            assert letter.turns[-1].text == letter.answer
            assert text.turns[-1].text == text.options[text.answer]
            assert letter.turns[0].text.rsplit("\n", 1)[1] != text.turns[0].text.rsplit("\n", 1)[1]
        else:
            assert letter.turns == text.turns
