"""Holds a free text against the annotation of its case: what it names, where, how many, how large, and its form."""

from collections.abc import Iterable, Sequence

from gmai_vl.records import Finding
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.closed import yes_or_no_faults
from gmai_vl.writing.claims.form import Role, form_faults
from gmai_vl.writing.claims.labels import missing_labels, says_normal
from gmai_vl.writing.claims.reading import read
from gmai_vl.writing.claims.relations import choice_faults
from gmai_vl.writing.claims.statements import statement_faults
from gmai_vl.writing.claims.subjects import Subjects
from gmai_vl.writing.verify_facts import MeasuredCase

CHECKS = (
    "complete",
    "labels",
    "hedged",
    "denied",
    "unsupported",
    "closed",
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
        asked = read(question, language, case)
        yield from yes_or_no_faults(asked, reading, case, spoken, region=about is not None)
        yield from choice_faults(asked, reading, case, subjects)
        for statement in asked.statements:
            subjects.go_on(statement)
    yield from statement_faults(reading, case, spoken, subjects, region=about is not None, question=question or "")
    if role == "caption":
        if missing := missing_labels(reading, [finding.label for finding in spoken]):
            yield "complete", f"does not name {', '.join(missing)}"
        if not case.findings and not says_normal(reading, case):
            yield "complete", "does not say that there is nothing"
