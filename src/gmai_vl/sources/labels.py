"""What source labels mean in the recipe's words, and which patient an item belongs to."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

from gmai_vl.foundation import BadItem, UserError, nearest
from gmai_vl.sources.fields import Label, Patient
from gmai_vl.sources.files import stem_of
from gmai_vl.sources.sheets import check_table, read_rows
from gmai_vl.vocabulary import Term, term


def term_of(source_label: str, label: Label) -> Term:
    """Return the term of a source label: as the recipe names it, else as it stands with underscores as blanks."""
    known = term(label.en if label.en is not None else source_label.replace("_", " ").strip())
    return Term(known.en, label.zh) if label.zh is not None else known


def look_up(
    source_label: str, labels: Mapping[str, Label | None], unknown_labels: Literal["keep", "quarantine"]
) -> Label | None:
    """Return what the recipe says of a source label; None: it is excluded.

    Raises BadItem if the recipe does not know it and wants such items in the quarantine.
    """
    if source_label in labels:
        return labels[source_label]
    if unknown_labels == "quarantine":
        raise BadItem(f"label `{source_label}` is not in the recipe; {nearest(source_label, labels)}")
    return Label()


def distinct(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Return the terms in their order, each once."""
    return tuple(dict.fromkeys(terms))


def terms_of(
    names: Iterable[str], labels: Mapping[str, Label | None], unknown_labels: Literal["keep", "quarantine"]
) -> tuple[Term, ...]:
    """Return the terms of source labels that an annotator could have given: not negative, excluded or unwanted ones."""
    known = (name for name in names if name in labels or unknown_labels == "keep")
    meant = ((name, labels.get(name, Label())) for name in known)
    return distinct(term_of(name, label) for name, label in meant if label is not None and not label.negative)


def negative_of(labels: Mapping[str, Label | None]) -> Term:
    """Return the recipe's word for "nothing is there": its negative label, else the vocabulary's "no finding"."""
    named = (term_of(name, label) for name, label in labels.items() if label is not None and label.negative)
    return next(named, term("no finding"))


def negative_among(given: Sequence[tuple[str, Label]]) -> Term | None:
    """Return what says that nothing is there, among labels given to one image; None where they name things.

    Raises BadItem if some do this and some that, or if two say it in different words.
    """
    negatives = distinct(term_of(name, label) for name, label in given if label.negative)
    if len(negatives) > 1 or (negatives and not all(label.negative for _, label in given)):
        names = ", ".join(f"`{name}`" for name, _ in given)
        raise BadItem(f"bears {names} at once, of which one says that nothing is there")
    return negatives[0] if negatives else None


def severity_of(severity: Sequence[str], labels: Mapping[str, Label | None]) -> tuple[Term, ...]:
    """Return the terms of source labels that are grades, from the least to the most severe.

    Raises UserError if the recipe excludes one of them.
    """
    grades = []
    for name in severity:
        label = labels.get(name, Label())
        if label is None:
            raise UserError(f"severity: `{name}` is excluded by `labels`; take it out of one of the two")
        grades.append(term_of(name, label))
    return distinct(grades)


def patient_of(patient: Patient, root: Path, item: str) -> str:
    """Return the patient id of an item. Raises BadItem if there is none: a guess could put a patient on both sides.

    Raises UserError if the table is absent or lacks a column.
    """
    name = PurePosixPath(item).name
    if patient.regex is not None:
        # The file name too, so that `^` may stand for its beginning.
        match = (re.search(patient.regex, item) if patient.of == "path" else None) or re.search(patient.regex, name)
        if match is None or not match[1]:
            raise BadItem(f"the patient's regular expression {patient.regex!r} is not found in `{item}`")
        return match[1]
    assert patient.table is not None and patient.key is not None and patient.value is not None
    path = root / patient.table
    check_table(path, "patient.table")
    patients = _patients(path, patient.key, patient.value, path.stat().st_mtime_ns)
    for key in (item, name, stem_of(item)):
        if patients.get(key):
            return patients[key]
    raise BadItem(f"has no patient in the table {patient.table}")


@lru_cache(maxsize=8)
def _patients(path: Path, key: str, value: str, changed: int) -> dict[str, str]:
    """Read key column -> value column; `changed` (the file's time) makes a changed file be read again."""
    rows = read_rows(path, "patient.table", (key, value))
    return {row[key]: row[value] for row in rows if row[key] and row[value]}
