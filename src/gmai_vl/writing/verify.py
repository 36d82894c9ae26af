"""Holds the text of a sample against the annotation again, by another way than the one it was written by."""

import re
from collections.abc import Iterable, Mapping
from math import dist
from typing import Any

from gmai_vl.records import Case, Conversation, Finding, Published, Sample
from gmai_vl.vocabulary import Language, Term, branch, may_come_with, overlap, siblings
from gmai_vl.writing.claims.written import check_written
from gmai_vl.writing.facts import NO, NO_FINDING, YES
from gmai_vl.writing.laterality import PATIENT_SIDES
from gmai_vl.writing.markup import ShareBox, parse_boxes, share_box
from gmai_vl.writing.phrases import REGION_BEGINS, wording
from gmai_vl.writing.relations import INSIDE, OVERLAPPING, SURROUNDED, TOUCHING
from gmai_vl.writing.verify_captions import (
    Checks,
    check_caption,
    check_statements,
    own_names,
    relation_said,
)
from gmai_vl.writing.verify_facts import (
    MeasuredCase,
    cell_of,
    contacts_of,
    directions_of,
    half_of,
    is_measure_of,
    measured,
    measures_in,
    modality_of,
    side_of_patient,
    size_of,
)

MEASURES = {"diameter": "length", "area": "area", "extent": "w"}
"""Form of a question about a measurement -> the group of `MEASURE` that answers it."""

LARGER, CLOSER, APART_ROUNDED = 1.49, 0.61, 1.25
"""How clear comparisons are at least: a little less than the writer's own limits."""

_MAY_HOLD_TOO = {
    (SURROUNDED, TOUCHING),
    (SURROUNDED, INSIDE),
    (INSIDE, OVERLAPPING),
    (INSIDE, SURROUNDED),
    (OVERLAPPING, TOUCHING),
}
"""Contacts of which the second may be said too where the first holds."""


def check_sample(sample: Sample, case: Case) -> Checks:
    """Check every question and answer of `sample` against `case`; a dialogue's checks begin with the turn's number.

    For many samples of one case give a MeasuredCase: its findings are then measured once.
    """
    if not isinstance(case, MeasuredCase):
        case = measured(case)
    told = sample.provenance.facts
    if told["form"] == "given":
        return _check_given(sample, case)
    if told["form"] == "written":
        return check_written(sample, case)
    texts = [turn.text for turn in sample.turns]
    if told["form"] != "dialogue":
        return _check(told, texts[0], texts[1], sample.language, case)
    checks: Checks = {"turns": len(texts) == 2 * len(told["turns"]) or f"{len(texts)} texts"}
    for number, (one, question, said) in enumerate(zip(told["turns"], texts[::2], texts[1::2], strict=False)):
        of_turn = _check(one, question, said, sample.language, case)
        checks |= {f"{number}.{name}": result for name, result in of_turn.items()}
    return checks


def _check(told: Mapping[str, Any], question: str, said: str, language: Language, case: MeasuredCase) -> Checks:
    form, kind, options = told["form"], told["kind"], told.get("options")
    checks: Checks = {"language": _speaks_chinese(question + said, options, case) if language == "zh" else True}
    if form == "caption":
        return checks | check_caption(said, language, case)
    if form == "region-caption":
        begins = said.startswith(REGION_BEGINS[language])
        return checks | {
            "begins": begins or said,
            **check_statements(said, language, case, _pointed_at(question, case)),
        }
    if form == "grounding":
        return checks | {"boxes": _boxes_are_right(said, told["subject"], language, case)}
    checks["asked"] = _asks_about(told, question, language, case)
    true = _true_answers(told, question, said, language, case)
    if options is not None:
        return checks | _check_choice(told, question, said, true, language, case)
    if kind == "dialogue":
        return checks | {
            "answer": _says(said, true, told, language, case) or f"{sorted(true)} is not what `{said}` says"
        }
    if form in ("kind", "among"):  # open: all that is there and nothing else, in any order
        whole = all(name in said for name in true) and len(said) == len(wording(language)["join"].join(true))
        return checks | {"answer": whole or f"`{said}` is not all of {sorted(true)}"}
    return checks | {"answer": said in true or f"`{said}` is none of {sorted(true)}"}


def _check_given(sample: Sample, case: Case) -> Checks:
    """Check that a sample says what the source says: its turns, and below the question of a choice its options."""
    name = sample.provenance.facts["conversation"]
    source = next((each for each in case.conversations if each.name == name), None)
    if source is None:
        return {"conversation": f"its case has no conversation `{name}`"}
    if source.published is not None:
        return _check_published(sample, source, source.published)
    asked, said, rounds = sample.turns[0].text, sample.turns[-1].text, len(source.turns) // 2
    checks: Checks = {
        "language": sample.language == source.language or f"is in {sample.language}, its source in {source.language}",
        "options": sample.options == source.options or f"{sample.options} for {source.options}",
        "subset": sample.subset == ("instruct" if sample.images else "text-multi" if rounds > 1 else "text-single")
        or f"{rounds} rounds and {len(sample.images)} images in {sample.subset}",
    }
    if source.options is not None:
        listed = "".join(f"\n{letter}. {text}" for letter, text in source.options.items())
        instructions = wording(source.language)["instructions"]
        letter, text = str(source.answer), source.options.get(str(source.answer))
        # An option may be worded like a letter, and then both instructions lead to what is said.
        ends = (instructions["mcq"] if said == letter else []) + (instructions["mcq-text"] if said == text else [])
        whole = [f"{source.turns[0].text}{listed}\n{end}" for end in ends]
        return checks | {
            "turns": asked in whole or f"`{asked}` and `{said}` are not what the source asks and answers",
            "answer": (sample.kind, sample.answer) == ("mcq", letter) or f"{sample.kind} with {sample.answer}",
        }
    right = {"dialogue": None, "open": said, "closed": said.lower().rstrip(".。!！")}.get(sample.kind, "")
    return checks | {
        "turns": sample.turns == source.turns or "they are not those of the source",
        "answer": (sample.answer == right and (sample.kind == "dialogue") == (rounds > 1))
        or f"{sample.kind} with {sample.answer} for {rounds} rounds",
    }


def _check_published(sample: Sample, source: Conversation, published: Published) -> Checks:
    """Check that a sample is what the export holds that it came from, whose annotation is not at hand."""
    told = {name: getattr(published, name) for name in ("id", "subset", "kind", "granularity", "answer")}
    told |= {"language": source.language, "options": source.options, "turns": source.turns}
    return {name: getattr(sample, name) == value or f"the export has {value}" for name, value in told.items()}


def _asks_about(told: Mapping[str, Any], question: str, language: Language, case: Case) -> bool | str:
    """Check that a question which compares names what it compares, and lists what it asks among."""
    wanted = [*([told["other"], told["subject"]] if told.get("other") else [])]
    if told["form"] in ("tally", "among") or (told["kind"] != "mcq" and told["form"] in ("largest", "closest")):
        wanted += told["listed"]
    missing = [name for name in wanted if _label(name, case).in_language(language) not in question]
    return not missing or f"`{question}` does not name {missing}"


def _label(name: str, case: Case) -> Term:
    """Return the label of a case by its English name."""
    known = [*(finding.label for finding in case.findings), *case.label_set, *case.severity]
    return next(label for label in known if label.en == name)


def _true_answers(
    told: Mapping[str, Any], question: str, said: str, language: Language, case: MeasuredCase
) -> set[str]:
    """Return every text that answers the question rightly, computed from the case alone.

    Of a measurement those of the options, or of what is `said`, that are right to their last digit.
    """
    form, claim = told["form"], told["claim"]
    own = [finding for finding in case.findings if finding.label.en == told["subject"]]
    if form == "presence":
        return {(YES if own else NO).in_language(language)}
    if form == "count":
        return {str(len(own))}
    if form == "severity":
        order = [grade.en for grade in case.severity]
        return {(YES if order.index(_grade(case).en) > order.index(claim) else NO).in_language(language)}
    if form == "tally":
        there = {finding.label.en for finding in case.findings}
        return {str(len(there & set(told["listed"])))}
    if form in MEASURES:
        assert len(own) == 1, f"{form} of {len(own)} findings"
        texts = (told["options"] or {"": said}).values()
        return {text for text in texts if _is_measured(text, form, own[0], case)}
    if form in _PROPERTIES:
        assert len(own) == 1, f"{form} of {len(own)} findings"
        true = _PROPERTIES[form](own[0], case)
        if claim is not None and true is not None:
            true = YES if true.en == claim else NO
        return {true.in_language(language)} if true else set()
    return {term.in_language(language) for term in _true_terms(told, question, own, case)}


def _true_terms(told: Mapping[str, Any], question: str, own: list[Finding], case: MeasuredCase) -> Iterable[Term]:
    form = told["form"]
    if form in ("relation", "contact"):
        (one,), (other,) = own, [finding for finding in case.findings if finding.label.en == told["other"]]
        if form == "relation":
            return directions_of(one, other, case)
        return [contact for contact, holds in contacts_of(one, other, case).items() if holds]
    if form in ("largest", "closest"):
        ranked = _ranked(told, case)
        return [min(ranked, key=lambda label: ranked[label])]
    terms: dict[str, Iterable[Term]] = {
        "modality": [modality_of(case)],
        "plane": [plane for plane in branch("view plane") if plane.en == case.plane],
        "body-part": [case.body_part] if case.body_part else [],
        "kind": [finding.label for finding in case.findings] or [NO_FINDING],
        "among": [finding.label for finding in case.findings if finding.label.en in told["listed"]],
        "region-kind": [finding.label for finding in _pointed_at(question, case)],
        "grade": [_grade(case)] if form == "grade" else [],
    }
    return terms[form]


def _grade(case: Case) -> Term:
    labels = [*(finding.label for finding in case.findings), *([case.negative] if case.negative else [])]
    grades = [grade for grade in case.severity if grade in labels]
    assert len(grades) == 1, f"{len(grades)} grades"
    return grades[0]


def _ranked(told: Mapping[str, Any], case: Case) -> dict[Term, float]:
    """Return the labels that a question compares, each with a number: the least of them is the answer.

    The distance of the centre of its box for `closest`; for `largest` the share of the image that its masks leave.
    """
    listed = [_label(name, case) for name in told["listed"]]
    own = {label: [finding for finding in case.findings if finding.label == label] for label in listed}
    if told["form"] == "largest":
        masks = {label: [finding.mask for finding in findings] for label, findings in own.items()}
        assert all(mask is not None for found in masks.values() for mask in found), "an area without a mask"
        covered = {
            label: sum(float(mask.sum()) for mask in found if mask is not None) for label, found in masks.items()
        }
        return {label: -pixels for label, pixels in covered.items()}
    boxes = {label: findings[0].box for label, findings in own.items() if len(findings) == 1}
    (subject,) = [finding.box for finding in case.findings if finding.label.en == told["subject"]]
    assert subject is not None and len(boxes) == len(listed) and all(boxes.values()), "a distance without a box"
    return {
        label: dist((box[0] + box[2], box[1] + box[3]), (subject[0] + subject[2], subject[1] + subject[3]))
        for label, box in boxes.items()
        if box is not None
    }


def _is_measured(text: str, form: str, finding: Finding, case: MeasuredCase) -> bool:
    found = list(measures_in(text))
    return len(found) == 1 and found[0][MEASURES[form]] is not None and is_measure_of(found[0], finding, case)


def _patient_side(finding: Finding, case: Case) -> Term | None:
    side = side_of_patient(finding, case)
    return PATIENT_SIDES[side] if side else None


_PROPERTIES = {"side": half_of, "position": cell_of, "size": size_of, "laterality": _patient_side}


def _pointed_at(question: str, case: Case) -> list[Finding]:
    """Return the findings whose rounded box stands in the question."""
    boxes = [box for _, box in parse_boxes(question)]
    return [finding for finding in case.findings if finding.box and _shares(finding, case) in boxes]


def _shares(finding: Finding, case: Case) -> ShareBox:
    assert finding.box is not None
    return share_box(finding.box, case.width, case.height)


def _check_choice(
    told: Mapping[str, Any], question: str, said: str, true: set[str], language: Language, case: MeasuredCase
) -> Checks:
    options, right = told["options"], told["letter"]
    listed = all(f"\n{letter}. {text}\n" in question for letter, text in options.items())
    letters = list(options) == list("ABCD"[: len(options)]) and len(options) >= 2
    wrong = [text for letter, text in options.items() if letter != right]
    true_too = [text for text in wrong if text in true or _may_be_true(text, told, true, language, case)]
    return {
        "options": (letters and listed) or str(dict(options)),
        "unique": len({text.lower() for text in options.values()}) == len(options) or str(dict(options)),
        "answer": (options.get(right) in true and said in (right, options[right]))
        or f"`{said}` is none of {sorted(true)}",
        "distractors": not true_too or str(true_too),
    }


def _may_be_true(text: str, told: Mapping[str, Any], true: set[str], language: Language, case: Case) -> bool:
    """Say whether what is offered as wrong could be right after all, or is not known to be wrong."""
    labels, form = [finding.label for finding in case.findings], told["form"]
    if form in ("kind", "region-kind"):
        found = (NO_FINDING, *case.label_set)
        if form == "region-kind":
            found = (*case.label_set, *(sibling for label in labels for sibling in siblings(label)))
        meant = _meant(text, found, language)
        may_be = may_come_with if form == "kind" else overlap
        return not meant or any(may_be(other, label) for other in meant for label in labels)
    if form == "grade":
        meant = _meant(text, case.severity, language)
        return not meant or any(overlap(other, _grade(case)) for other in meant)
    if form == "contact":
        return any(
            (one.in_language(language), other.in_language(language)) in {(t, text) for t in true}
            for one, other in _MAY_HOLD_TOO
        )
    if form in ("largest", "closest"):
        ranked = _ranked(told, case)
        best = min(ranked.values())
        others = [ranked[label] for label in _meant(text, ranked, language)]
        clear = [best <= LARGER * other if form == "largest" else best < CLOSER * other for other in others]
        return not clear or not all(clear)
    if form in ("diameter", "area"):
        return any(max(_value(text) / _value(one), _value(one) / _value(text)) < APART_ROUNDED for one in true)
    return False


def _meant(text: str, terms: Iterable[Term], language: Language) -> list[Term]:
    return [term for term in terms if (language == "en" or term.zh) and term.in_language(language) == text]


def _value(text: str) -> float:
    """Return a length or an area as a number, areas in mm²."""
    (match,) = measures_in(text)
    return float(match["area"] or match["length"]) * (100 if match["unit"] in ("cm²", "平方厘米") else 1)


def _says(said: str, true: set[str], told: Mapping[str, Any], language: Language, case: MeasuredCase) -> bool:
    """Say whether a free answer holds the true one: all that is seen, the name of the image, yes or no."""
    form = told["form"]
    if form in ("presence", "severity") or told["claim"] is not None:
        return said.lower().startswith(next(iter(true)))
    if form == "modality":
        name: str = wording(language)["image_names"][modality_of(case).en]
        return name in said
    if form in ("relation", "contact"):
        (one,) = [finding for finding in case.findings if finding.label.en == told["subject"]]
        (other,) = [finding for finding in case.findings if finding.label.en == told["other"]]
        return relation_said(said, one, other, language, case)
    if form in MEASURES:
        return bool(true)
    return bool(true) and all(re.search(rf"(?<!\d){re.escape(answer)}(?!\d)", said, re.IGNORECASE) for answer in true)


def _boxes_are_right(said: str, subject: str, language: Language, case: Case) -> bool | str:
    own = [finding for finding in case.findings if finding.label.en == subject]
    expected = [(finding.label.in_language(language), _shares(finding, case)) for finding in own if finding.box]
    return sorted(parse_boxes(said)) == sorted(expected) or f"{said} for {expected}"


def _speaks_chinese(text: str, options: Mapping[str, str] | None, case: Case) -> bool | str:
    """Say whether a Chinese text, less names, option letters and markup, is free of Latin words and punctuation."""
    labels = [
        *case.label_set,
        *(finding.label for finding in case.findings),
        *([case.negative] if case.negative else []),
    ]
    names = own_names(case, "zh", labels) | set((options or {}).values())
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "")
    text = re.sub(r"</?ref>|<box>[^<]*</box>|\b[A-D](\. |$)|^[A-D]\b", "", text, flags=re.MULTILINE)
    foreign = re.findall(r"[A-Za-z]+|[,;:?!]|\.(?!\d)", text)
    return not foreign or f"not Chinese: {foreign}"
