"""Holds what a text says, statement by statement, against the annotation of its case."""

import re
from collections.abc import Iterator, Sequence

from gmai_vl.records import Finding
from gmai_vl.writing.claims.counts import count_faults
from gmai_vl.writing.claims.frame import frame_faults
from gmai_vl.writing.claims.labels import label_faults
from gmai_vl.writing.claims.measurements import measurement_faults
from gmai_vl.writing.claims.places import largest_or_smallest, place_faults
from gmai_vl.writing.claims.reading import Reading
from gmai_vl.writing.claims.sizes import size_faults
from gmai_vl.writing.claims.subjects import Subjects
from gmai_vl.writing.claims.words import plain_text
from gmai_vl.writing.verify_facts import MeasuredCase

_OF_PATIENT = re.compile(r"\bpatient|\bbody\b|\banatomical|患者|病人|解剖")
_HOW_MANY = re.compile(r"\bhow many\b|\bnumber of\b|\bcount\b|多少|几(?!句)|数目|数量|数一数")


def statement_faults(
    reading: Reading,
    case: MeasuredCase,
    spoken: Sequence[Finding],
    subjects: Subjects,
    *,
    region: bool,
    question: str = "",
) -> Iterator[tuple[str, str]]:
    """Yield check and reason for everything that is wrong; `spoken` are the findings that the text is about."""
    language = reading.language
    yield from label_faults(reading, case, spoken, region=region)
    yield from frame_faults(reading, case)
    asked = plain_text(question)
    of_patient, how_many = bool(_OF_PATIENT.search(asked)), bool(_HOW_MANY.search(asked))
    for statement in reading.statements:
        chosen = largest_or_smallest(statement.text, subjects.of(statement), language)
        narrowed = Subjects(language, case.findings, chosen, chosen)
        yield from place_faults(statement, language, case, narrowed, asked_of_patient=of_patient)
        without, faults = measurement_faults(statement.text, subjects.of(statement), case)
        yield from faults
        yield from count_faults(without, statement, language, case, subjects, asked_how_many=how_many)
        yield from size_faults(statement, language, subjects)
        subjects.go_on(statement)
