"""Holds a free text against the annotation of its case: what it names, where, how many, how large, and its form."""

import re
from collections.abc import Iterable, Sequence

from gmai_vl.records import Finding
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.counts import count_faults
from gmai_vl.writing.claims.form import Role, form_faults
from gmai_vl.writing.claims.frame import frame_faults
from gmai_vl.writing.claims.labels import label_faults, means, missing_labels, says_normal
from gmai_vl.writing.claims.measurements import measurement_faults
from gmai_vl.writing.claims.places import largest_or_smallest, place_faults
from gmai_vl.writing.claims.reading import Reading, read
from gmai_vl.writing.claims.sizes import size_faults
from gmai_vl.writing.claims.subjects import Subjects
from gmai_vl.writing.claims.words import pattern, patterns_of, plain_text
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

MOST_CHARACTERS = 6000
"""Longer texts are not read."""

_OF_PATIENT = re.compile(r"\bpatient|\bbody\b|\banatomical|患者|病人|解剖")
_HOW_MANY = re.compile(r"\bhow many\b|\bnumber of\b|\bcount\b|多少|几|数目|数量|数一数")
_CLOSED: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"^(?:[^,?]*, )?(?:(?:is|are|was|were|does|do|did|can|could|has|have|may|might|would|will)(?:n't)?|can't|am i)"
        r"\b(?!.*\bor\b)|\bis (?:this|that) (?:correct|right|true|so)\?"
    ),
    "zh": re.compile("吗[?？]?$|是否|有没有|有无|是不是|能否|可否"),
}
_IS_IMAGE = re.compile(r"^(?:is|was) (?:this|it|that|the (?:image|picture))\b|^这是|^该图")
_NOT_PLAIN = re.compile(
    r"\b(?:no|not|same|anything|any other|absent|normal|true|correct|right that|lack|free of)\b|n't\b|"
    r"没有[^吗]*吗|异常|正常|相同|不是[^吗]*吗|对吗"
)
"""Closed questions that deny, compare or ask for whatever there is: yes and no are not read."""

_COMPARES = re.compile(r"\b\w+er (?:in \w+ )?than\b|\bmore\b|\bfewer\b|\bexceed\w*|[大小多少高低]于|超过|只占")
"""What "no" is not held against: not every comparison is read."""

_ASKS_TELLABLE = re.compile(
    r"\b(?:is|are) (?:there|this|it|these)\b|"
    r"\b(?:show|shows|visible|seen|present|contain|have|has|detect\w*|depict\w*)\b|"
    r"\b(?:left|right|upper|lower|center|top|bottom|large|small|tiny|more than|single|one|two|three)\b|"
    r"是否|有没有|吗|有无|可见|左|右|上|下|大|小|中央"
)
"""Questions whose answer an annotation tells: whether, where, how many, how large."""


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
    if len(text) > MOST_CHARACTERS:  # not worth reading, and hostile text could be slow to read
        return {check: check != "length" or f"{len(text)} characters" for check in CHECKS}
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
    subjects = Subjects(language, case.findings, spoken)
    if question:
        yield from _yes_or_no_faults(reading, question, case, spoken, region=about is not None)
        for statement in read(question, language, case).statements:
            subjects.go_on(statement)
    yield from _statement_faults(reading, case, spoken, subjects, region=about is not None, question=question or "")
    if role == "caption":
        if missing := missing_labels(reading, [finding.label for finding in spoken]):
            yield "complete", f"does not name {', '.join(missing)}"
        if not case.findings and not says_normal(reading, case):
            yield "complete", "does not say that there is nothing"


def _statement_faults(
    reading: Reading,
    case: MeasuredCase,
    spoken: Sequence[Finding],
    subjects: Subjects,
    *,
    region: bool,
    question: str = "",
) -> Iterable[tuple[str, str]]:
    """Yield what is wrong with what a text says, statement by statement."""
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


def is_open(question: str, language: Language) -> bool:
    """Say whether a question cannot be answered with yes or no."""
    return not _CLOSED[language].search(plain_text(question))


def _yes_or_no_faults(
    answer: Reading, question: str, case: MeasuredCase, about: Sequence[Finding], *, region: bool
) -> Iterable[tuple[str, str]]:
    """Read yes as the statement that a closed question makes, and no as that it is wrong.

    No is held only against what an annotation tells: not in answer to "Is its margin smooth?".
    """
    language = answer.language
    says_yes = bool(pattern(language, "says_yes").search(answer.text))
    says_no = not says_yes and bool(pattern(language, "says_no").search(answer.text))
    if not (says_yes or says_no) or is_open(question, language) or _NOT_PLAIN.search(plain_text(question)):
        return
    asked = read(question, language, case)
    wrong = [
        fault
        for fault in _statement_faults(asked, case, about, Subjects(language, case.findings, about), region=region)
        if fault[0] not in ("invented", "denied", "unsupported")
    ]
    if says_yes:
        yield from wrong
    elif not wrong and not _COMPARES.search(asked.text) and _can_be_told(asked, case):
        yield "denied", "no, but it is so"


def _can_be_told(asked: Reading, case: MeasuredCase) -> bool:
    """Say whether an annotation tells if what a question asks for is so."""
    about_image = any(kind.search(asked.text) for kind in patterns_of("modalities").values())
    of_labels = any(
        means(mention, finding.label, asked.language) for mention in asked.mentions for finding in case.findings
    )
    return (of_labels and bool(_ASKS_TELLABLE.search(asked.text))) or (
        about_image and bool(_IS_IMAGE.search(asked.text))
    )
