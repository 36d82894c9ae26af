"""Holds a free text against the annotation of its case: what it names, where, how many, how large, and its form."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gmai_vl.records import Finding
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.counts import count_faults
from gmai_vl.writing.claims.form import Role, form_faults
from gmai_vl.writing.claims.frame import frame_faults
from gmai_vl.writing.claims.labels import label_faults, missing_labels, says_normal
from gmai_vl.writing.claims.measurements import measurement_faults
from gmai_vl.writing.claims.places import largest_or_smallest, place_faults
from gmai_vl.writing.claims.reading import Reading, Statement, read
from gmai_vl.writing.claims.sizes import size_faults
from gmai_vl.writing.claims.subjects import Subjects
from gmai_vl.writing.claims.words import pattern
from gmai_vl.writing.verify_facts import MeasuredCase

CHECKS = (
    "complete",
    "labels",
    "hedged",
    "denied",
    "unsupported",
    "modality",
    "plane",
    "laterality",
    "side",
    "position",
    "relation",
    "count",
    "numbers",
    "size",
    "grade",
    "measurement",
    "invented",
    "markup",
    "language",
    "residue",
    "length",
    "repetition",
    "begins",
)
"""Names of the checks; a text passes those that find nothing."""

_OF_PATIENT = re.compile(r"\bpatient|\bbody\b|\banatomical|患者|病人|解剖")
_HOW_MANY = re.compile(r"\bhow many\b|\bnumber of\b|\bcount\b|多少|几|数目|数量|数一数")
_ASKS_PRESENCE = re.compile(
    r"\b(?:is|are) there\b|\b(?:show|shows|visible|seen|present|evidence|contain|demonstrate|have|has|"
    r"detect\w*)\b|是否|有没有|吗|有无|可见"
)
_ASKS_PLACE = re.compile(
    r"\bleft\b|\bright\b|\bupper\b|\blower\b|\blarge|\bsmall|\bmore than\b|\bcenter|左|右|上|下|大|小|中央"
)


def check_text(
    text: str,
    role: Role,
    language: Language,
    case: MeasuredCase,
    about: Sequence[Finding] | None = None,
    question: str | None = None,
) -> dict[str, bool | str]:
    """Return check -> True, or what is wrong. `about` are the findings spoken of, all of the case without it.

    A caption has to name every label (or say that there is nothing), a region's caption begins with the fixed words and
    may let its label be understood, an answer is read together with its `question`.
    """
    found: dict[str, list[str]] = {}
    for check, reason in _faults(text, role, language, case, about, question):
        found.setdefault(check, []).append(reason)
    return {check: "; ".join(dict.fromkeys(found[check])) if check in found else True for check in CHECKS}


def _faults(
    text: str,
    role: Role,
    language: Language,
    case: MeasuredCase,
    about: Sequence[Finding] | None,
    question: str | None,
) -> Iterable[tuple[str, str]]:
    yield from form_faults(text, role, language, case)
    reading = read(text, language, case)
    spoken = list(case.findings) if about is None else list(about)
    yield from label_faults(reading, case, spoken, region=about is not None)
    yield from frame_faults(reading, case)
    asked = read(question, language, case) if question else None
    if asked is not None:
        yield from _yes_or_no_faults(reading, asked, case, spoken)
    subjects = Subjects(language, case.findings, spoken)
    if asked is not None:
        for statement in asked.statements:
            subjects.go_on(statement)
    of_patient = bool(question and _OF_PATIENT.search(question.lower()))
    how_many = bool(asked and _HOW_MANY.search(asked.text))
    for statement in reading.statements:
        chosen = largest_or_smallest(statement.text, subjects.of(statement), language)
        narrowed = Subjects(language, case.findings, chosen, chosen)
        yield from place_faults(statement, language, case, narrowed, asked_of_patient=of_patient)
        without, faults = measurement_faults(statement.text, subjects.of(statement), case)
        yield from faults
        yield from count_faults(without, statement, language, case, subjects, asked_how_many=how_many)
        yield from size_faults(statement, language, subjects)
        subjects.go_on(statement)
    if role == "caption":
        if missing := missing_labels(reading, [finding.label for finding in spoken]):
            yield "complete", f"does not name {', '.join(missing)}"
        if not case.findings and not says_normal(reading, case):
            yield "complete", "does not say that there is nothing"


def _yes_or_no_faults(
    reading: Reading, asked: Reading, case: MeasuredCase, spoken: Sequence[Finding]
) -> Iterable[tuple[str, str]]:
    """Read yes or no as the statement that the question makes of it; questions about places and sizes are left out."""
    language = reading.language
    says_yes = bool(pattern(language, "says_yes").search(reading.text))
    says_no = not says_yes and bool(pattern(language, "says_no").search(reading.text))
    if not (says_yes or says_no) or not _ASKS_PRESENCE.search(asked.text) or _ASKS_PLACE.search(asked.text):
        return
    for statement in asked.statements:
        mentions = [
            replace(mention, said="denied" if says_no else "affirmed")
            for mention in statement.mentions
            if mention.said != "denied"
        ]
        turned = Reading(language, "", (Statement(statement.text, 0, tuple(mentions)),))
        yield from label_faults(turned, case, spoken, region=False)
