"""Options of the questions of a benchmark: surely wrong, told apart, and as often in each place."""

import csv
import random
from collections import Counter, defaultdict
from importlib.resources import files
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation.construction import balance
from gmai_vl.evaluation.construction.candidates import Candidate
from gmai_vl.evaluation.construction.distractors import Branches, distinct, wrong_labels
from gmai_vl.evaluation.construction.subjects import Cell, Subject, subjects_of
from gmai_vl.records import Case, Finding
from gmai_vl.vocabulary import Term, all_terms, synonyms, term
from gmai_vl.writing.facts import facts_of

CELL = Cell(clinical_task="Disease Diagnosis", department="", modality="CT", granularity="image")


def candidate(number: int, label: str, patient: str = "", wrong: tuple[str, ...] = (), source: str = "s") -> Candidate:
    return Candidate(
        id=f"{number:04}", cell=CELL, label=Term(label), wrong=tuple(map(Term, wrong)), case_id=str(number), region="",
        patient=patient or str(number), source=source, license=None, original_task="CLS_2D",
    )  # fmt: skip


things = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("pqrst")), max_size=40)


@given(things, st.integers(0, 3), st.randoms())
def test_labels_take_turns_and_so_do_patients(pairs: list[tuple[str, str]], seed: int, rng: random.Random) -> None:
    members = [candidate(number, *pair) for number, pair in enumerate(pairs)]
    ordered = balance.in_turns(members, seed)
    shuffled = rng.sample(members, len(members))
    assert balance.in_turns(shuffled, seed) == ordered
    supply = Counter(label for label, _ in pairs)
    longest = sorted(supply.values())[-2] if len(supply) > 1 else 0
    assert Counter(each.label.en for each in ordered) == {
        label: min(n, longest) for label, n in supply.items() if longest
    }
    left, taken = list(members), Counter()
    for place, each in enumerate(ordered):
        assert taken[each.patient] == min(taken[other.patient] for other in left if other.label == each.label)
        left.remove(each)
        taken[each.patient] += 1
        so_far = Counter(other.label.en for other in ordered[: place + 1])
        for label, number in supply.items():
            assert so_far[label] >= min(max(so_far.values()) - 1, number)


labels_of_candidates = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.sets(st.sampled_from("abcdefgh"), min_size=1), st.sampled_from("st")),
    min_size=1,
    max_size=40,
)


@given(labels_of_candidates)
def test_options_are_distinct_wrong_and_evenly_placed(drawn: list[tuple[str, set[str], str]]) -> None:
    members = [
        candidate(number, label, wrong=tuple(sorted(wrong - {label})), source=source)
        for number, (label, wrong, source) in enumerate(drawn)
        if wrong - {label}
    ]
    eligible = balance.fair(balance.roomy(members)) if members else []
    choices = balance.with_letters(balance.with_options(eligible, 0), 0)
    right = {choice.label.en for choice in choices}
    numbers: dict[str, set[int]] = defaultdict(set)
    for choice in choices:
        shown_labels = [label.en for label in choice.options.values()]
        assert choice.options[choice.answer] == choice.label
        assert sorted(shown_labels) == sorted({choice.label.en, *(label.en for label in choice.wrong)})
        assert set(choice.wrong) <= set(choice.candidate.wrong)
        assert right & {label.en for label in choice.wrong}
        numbers[choice.candidate.source].add(len(shown_labels))
    assert all(len(found) == 1 for found in numbers.values())
    for number in range(2, 6):
        dealt = Counter(choice.answer for choice in choices if len(choice.options) == number)
        assert max(dealt.values(), default=0) - min(dealt["ABCDE"[place]] for place in range(number)) <= 1


def test_labels_are_wrong_about_as_often_as_each_other() -> None:
    names = "abcdefghi"
    members = [candidate(number, names[number % 9], wrong=tuple(names)) for number in range(90)]
    choices = balance.with_options(members, 0)
    offered = Counter(label.en for choice in choices for label in choice.wrong)
    assert offered.total() == 360 and max(offered.values()) - min(offered.values()) <= 2


def test_options_with_one_name_are_offered_once() -> None:
    labels = [
        Term("HCC"),
        term("hepatocellular carcinoma"),
        Term("Cyst"),
        Term("cyst"),
        Term("x", "囊肿"),
        Term("y", "囊肿"),
    ]
    assert [label.en for label in distinct(labels)] == ["HCC", "Cyst", "x"]
    assert list(distinct([Term("CYST ")], known=[Term("cyst")])) == []


ROWS = list(csv.DictReader((files("gmai_vl.vocabulary") / "terms.csv").read_text(encoding="utf-8").splitlines()))


WITHIN = {row["en"].lower(): {name for name in row["within"].lower().split(";") if name} for row in ROWS}


FINDINGS = [label for label in all_terms() if label.en.lower() in WITHIN]


def parents(name: str) -> set[str]:
    """Return all that a term lies in, read from the vocabulary's file alone."""
    found, waiting = set(), [name]
    while waiting:
        for wider in WITHIN.get(waiting.pop(), ()):
            if wider not in found:
                found.add(wider)
                waiting.append(wider)
    return found


label_sets = st.lists(st.sampled_from(FINDINGS), min_size=1, max_size=12, unique=True)


@given(label_sets, st.data(), st.booleans())
def test_wrong_labels_are_never_true(known: list[Term], data: st.DataObject, boxed: bool) -> None:
    given_labels = data.draw(st.lists(st.sampled_from(known), max_size=4, unique=True))
    extra = data.draw(st.lists(st.sampled_from(FINDINGS), max_size=6, unique=True))
    negative = None if given_labels else term("no finding")
    boxes = [(4 * place, 0, 4 * place + 4, 8) for place in range(len(given_labels))]
    findings = tuple(
        Finding(label=label, source_label=label.en, box=box if boxed else None)
        for label, box in zip(given_labels, boxes, strict=True)
    )
    case = Case(
        source="s", item="i", pixels=np.zeros((16, 32), np.uint8), modality="CT", task="cls", findings=findings,
        negative=negative, label_set=tuple(known), clinical_task="Disease Diagnosis",
    )  # fmt: skip
    branches = Branches(
        negatives={"s": (term("no finding"),)},
        akin={("CT", "Disease Diagnosis"): tuple(dict.fromkeys([*known, *extra]))},
    )
    for number, label in enumerate(given_labels or [negative]):
        subject = Subject(
            granularity="box" if findings and boxed else "image",
            label=label,
            finding=findings[number] if findings and boxed else None,
        )
        wrong = wrong_labels(case, subject, branches)
        # Of a region, what stands in other places of the image is not true.
        true = [label] if subject.finding else (given_labels or [negative])
        true_names = {name.lower() for each in true for name in (each.en, each.zh, *synonyms(each, "en")) if name}
        for other in wrong:
            assert not {name.lower() for name in (other.en, other.zh) if name} & true_names
            assert not any(other.en.lower() in parents(each.en.lower()) for each in true)
            assert other in {*known, *extra, term("no finding")}
            if other == term("no finding"):
                assert findings and subject.finding is None
        facts = facts_of(case)
        if not subject.finding and facts.absent:  # the writer's own rule, computed apart from this one
            assert set(facts.absent) == set(wrong) - {term("no finding")}
        if not findings:
            assert set(wrong) <= set(facts.absent)


BOX = (2, 2, 12, 12)


def case_of(findings: dict[Term, tuple[int, int, int, int] | None], **changes: Any) -> Case:
    found = tuple(Finding(label=label, source_label=label.en, box=box) for label, box in findings.items())
    fields: dict[str, Any] = {
        "source": "s", "item": "i", "pixels": np.zeros((40, 60), np.uint8), "modality": "CT", "task": "cls",
        "clinical_task": "Disease Diagnosis", "findings": found,
    }  # fmt: skip
    return Case(**fields | changes)


def wrong_by_label(case: Case, akin: tuple[Term, ...] = (), negatives: tuple[Term, ...] = ()) -> dict[str, list[str]]:
    """Return right label -> the wrong ones, in English."""
    branches = Branches(negatives={"s": negatives}, akin={("CT", "Disease Diagnosis"): akin})
    return {
        subject.label.en: [label.en for label in wrong_labels(case, subject, branches)]
        for subject in subjects_of(case)[0]
    }


MELANOMA, NO_MELANOMA, NO_FINDING = term("melanoma"), Term("no melanoma"), term("no finding")


CARCINOMA, LIVER, SPLEEN, AORTA = map(term, ("hepatocellular carcinoma", "liver", "spleen", "aorta"))


def test_what_denies_a_finding_is_no_kind_of_it_and_is_right_or_wrong_of_whole_images_only() -> None:
    known = {"label_set": (MELANOMA,), "severity": (NO_MELANOMA, MELANOMA)}
    denials = (NO_MELANOMA,)
    assert wrong_by_label(case_of({MELANOMA: None}, **known), negatives=denials) == {"melanoma": ["no melanoma"]}
    assert wrong_by_label(case_of({}, negative=NO_MELANOMA, **known), negatives=denials) == {
        "no melanoma": ["melanoma"]
    }
    assert wrong_by_label(case_of({MELANOMA: BOX}, **known), negatives=denials) == {"melanoma": []}
    grades = (Term("grade zero"), Term("grade one"), Term("grade two"))
    graded = case_of({grades[2]: BOX}, label_set=grades[1:], severity=grades)
    assert wrong_by_label(graded, negatives=grades[:1]) == {"grade two": ["grade one"]}
    # Where nothing was found, nothing of that name is offered, whatever list it stands in; nor beside a healthy organ.
    assert wrong_by_label(case_of({}, negative=NO_MELANOMA, label_set=(NO_FINDING, MELANOMA))) == {
        "no melanoma": ["melanoma"]
    }
    organs = case_of({LIVER: None}, label_set=(LIVER, SPLEEN))
    assert wrong_by_label(organs, negatives=(NO_FINDING,)) == {"liver": ["spleen"]}


def test_synonyms_of_a_right_label_are_not_offered() -> None:
    known = (CARCINOMA, Term("HCC"), Term("other", "肝细胞性肝癌"), SPLEEN)
    assert wrong_by_label(case_of({CARCINOMA: BOX}, label_set=known)) == {CARCINOMA.en: ["spleen"]}
    assert wrong_by_label(case_of({Term("hcc"): BOX}, label_set=known)) == {"hcc": ["other", "spleen"]}


def test_other_cases_lend_their_labels_only_where_a_finding_has_none_and_nothing_in_common_with_them() -> None:
    lent = (CARCINOMA, LIVER, SPLEEN, AORTA, term("liver cyst"))
    assert wrong_by_label(case_of({LIVER: BOX}, label_set=(LIVER,)), akin=lent) == {"liver": ["aorta", "spleen"]}
    assert wrong_by_label(case_of({LIVER: BOX}, label_set=(LIVER, SPLEEN)), akin=lent) == {"liver": ["spleen"]}
    assert wrong_by_label(case_of({}, negative=NO_FINDING, label_set=()), akin=lent) == {"no finding": []}


def test_labels_elsewhere_are_offered_only_apart_from_the_region() -> None:
    boxes = {LIVER: (0, 0, 20, 20), AORTA: (4, 4, 16, 16), SPLEEN: (19, 0, 39, 20), term("liver cyst"): (0, 24, 10, 34)}
    case = case_of(boxes, label_set=tuple(boxes))
    assert wrong_by_label(case) == {
        "liver": ["spleen"],  # the aorta covers a third of its box, the cyst is its own
        "aorta": ["liver cyst", "spleen"],
        "spleen": ["aorta", "liver", "liver cyst"],
        "liver cyst": ["aorta", "spleen"],
    }
