"""Choosing questions, the baselines that do not look, and the exchange of images."""

from collections import Counter

import pytest
from evaluation_samples import grounding, question
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation import choose, exchange_images, judge, majority_answers
from gmai_vl.foundation import UserError

FORMS = ("modality", "plane", "side")


@st.composite
def question_lists(draw):
    count = draw(st.integers(1, 60))
    return [
        question(
            number,
            form=draw(st.sampled_from(FORMS)),
            patient_id=draw(st.sampled_from(["p", "q", "r", "s", None])),
            modality=draw(st.sampled_from(["CT", "MR", "X-ray"])),
        )
        for number in range(count)
    ]


@given(question_lists(), st.integers(1, 60), st.integers(0, 3))
def test_a_limit_keeps_the_mix_of_forms_and_the_order(questions, limit, seed):
    chosen = choose(questions, limit, seed)
    assert len(chosen) == min(limit, len(questions))
    assert chosen == [entry for entry in questions if entry in chosen]
    all_forms = Counter(entry.form for entry in questions)
    for form, count in Counter(entry.form for entry in chosen).items():
        assert abs(count - limit * all_forms[form] / len(questions)) < 1 or limit >= len(questions)


def test_a_limit_takes_the_patients_in_turn():
    # one patient has most of the questions, of two forms
    questions = [question(n, form=FORMS[n % 2], patient_id="big" if n < 80 else f"p{n // 2 % 10}") for n in range(100)]
    chosen = Counter(entry.patient for entry in choose(questions, 22, seed=1))
    assert set(chosen.values()) == {2}
    assert choose(questions, 22, seed=1) != choose(questions, 22, seed=2)


def test_patients_of_the_same_name_in_two_sources_are_two():
    assert question(1, source="s", patient_id="1").patient != question(1, source="t", patient_id="1").patient
    assert question(1, patient_id=None).patient == question(2, patient_id=None, images=("image001",)).patient


@given(
    st.lists(
        st.tuples(st.sampled_from(FORMS[:2]), st.permutations(["CT", "MRI", "PET"]), st.integers(0, 2)), max_size=30
    ),
    st.permutations(["CT", "MRI", "PET"]),
)
def test_majority_of_a_known_option_set_is_the_brute_force_one(train_facts, order):
    def asked(number, form, texts, right):
        return question(number, form=form, options=dict(zip("ABC", texts, strict=True)), answer="ABC"[right])

    train = [asked(number, *facts) for number, facts in enumerate(train_facts)]
    test = asked(99, "modality", order, 0)
    letter = majority_answers(train, [test])["q099"]
    counts = Counter(entry.options[entry.answer] for entry in train if entry.form == "modality")
    if counts:
        most = max(counts.values())
        assert test.options[letter] == min(text for text, count in counts.items() if count == most)


def test_majority_falls_back_from_the_option_set_to_the_form_to_all_to_the_first_letter():
    train = [
        question(1, options={"A": "CT", "B": "MRI"}, answer="B"),
        question(2, options={"A": "MRI", "B": "CT", "C": "PET"}, answer="B"),
        question(3, options={"A": "CT", "B": "PET"}, answer="A"),
        question(4, form="plane", options={"A": "axial", "B": "coronal"}, answer="B"),
    ]
    test = [
        question(11, options={"A": "MRI", "B": "CT"}),
        question(12, options={"A": "MRI", "B": "CT", "C": "ultrasound"}),
        question(13, options={"A": "axial", "B": "coronal"}),
        question(14, options={"A": "left", "B": "right"}),
    ]
    assert majority_answers(train, test) == {"q011": "A", "q012": "B", "q013": "B", "q014": "A"}


def test_majority_pools_yes_and_no_over_languages_and_never_reads_the_test_answers():
    closed = {"kind": "closed", "options": None, "form": "presence"}
    train = [
        question(1, answer="yes", **closed),
        question(2, answer="否", language="zh", **closed),
        question(3, answer="no", **closed),
    ]
    test = [question(4, answer="yes", **closed), question(5, answer="否", language="zh", **closed)]
    responses = majority_answers(train, test)
    assert responses == {"q004": "no", "q005": "no"}
    assert [entry.correct for entry in judge(test, responses)] == [False, True]


def test_the_majority_box_is_the_median_of_the_subject():
    train = [grounding(n, (n, 0, n + 20, 25)) for n in (10, 20, 60)] + [grounding(9, (0, 0, 1, 1), subject="liver")]
    responses = majority_answers(train, [grounding(5, (20, 0, 40, 25))])
    assert responses == {"q005": "<box>[[0.20, 0.00, 0.40, 0.50]]</box>"}


@given(question_lists(), st.integers(0, 5), st.sampled_from([None, "modality"]))
def test_exchanged_images_are_another_patients(questions, seed, within):
    owner = {image: entry for entry in questions for image in entry.images}
    pools = {entry.modality if within else None: set() for entry in questions}
    for entry in questions:
        pools[entry.modality if within else None].add(entry.patient)
    able = [entry for entry in questions if len(pools[entry.modality if within else None]) > 1]
    if not able:
        with pytest.raises(UserError, match="two patients"):
            exchange_images(questions, seed, within)
        return
    exchanged = exchange_images(questions, seed, within)
    assert [entry.id for entry in exchanged] == [entry.id for entry in able]
    partners = {}
    for before, after in zip(able, exchanged, strict=True):
        giver = owner[after.images[0]]
        assert giver.patient != before.patient
        assert within is None or giver.modality == before.modality
        pool = before.modality if within else None
        partners.setdefault((pool, before.patient), set()).add(giver.patient)
        assert (after.turns, after.answer, len(after.images)) == (before.turns, before.answer, len(before.images))
    assert all(len(givers) == 1 for givers in partners.values())
    # a derangement: in each pool every patient gives to one patient and takes from one
    for pool, patients in pools.items():
        if len(patients) > 1:
            givers = [next(iter(partners[pool, patient])) for patient in patients]
            assert sorted(givers) == sorted(patients)
    assert exchanged == exchange_images(questions, seed, within)
