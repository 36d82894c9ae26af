"""Look-up of terms in `terms.csv`; an unknown name is an error that tells the nearest ones."""

import csv
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Literal

from gmai_vl.foundation import UserError, nearest

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Term:
    """One name in two languages."""

    en: str
    """English; proper names as the field writes them (CT, Hematology), all else in lower case."""

    zh: str | None = None
    """Chinese; None where it is not known, and then nothing is said in Chinese about it."""

    def in_language(self, language: Language) -> str:
        """Return the name in `language`. Raises ValueError if there is none."""
        name = self.en if language == "en" else self.zh
        if name is None:
            raise ValueError(f"term `{self.en}` has no Chinese name")
        return name


_TAXONOMIES = frozenset({"modality", "department", "clinical task", "granularity"})


@cache
def _rows() -> tuple[tuple[str, Term, frozenset[str]], ...]:
    """(branch, term, lower-case names of what it is a part or a kind of), in the order of the file."""
    text = (files("gmai_vl.vocabulary") / "terms.csv").read_text(encoding="utf-8")
    return tuple(
        (row["branch"], Term(row["en"], row["zh"] or None), frozenset(row["within"].lower().split(";")) - {""})
        for row in csv.DictReader(text.splitlines())
    )


@cache
def _branches() -> dict[str, tuple[Term, ...]]:
    """Branch -> its terms, in the order of the file."""
    branches: dict[str, list[Term]] = {}
    for branch, entry, _ in _rows():
        branches.setdefault(branch, []).append(entry)
    return {branch: tuple(terms) for branch, terms in branches.items()}


@cache
def _by_lower_name() -> dict[str, tuple[str, Term]]:
    """English name in lower case -> (branch, term), for anatomy and findings; the first branch that has the name."""
    by_name: dict[str, tuple[str, Term]] = {}
    for branch, entry, _ in _rows():
        if branch not in _TAXONOMIES:
            by_name.setdefault(entry.en.lower(), (branch, entry))
    return by_name


@cache
def _wider(name: str) -> frozenset[str]:
    """Lower-case names of all that `name` is a part or a kind of, itself included."""
    wider = {name}
    for _, entry, within in _rows():
        if entry.en.lower() == name:
            wider.update(*map(_wider, within))
    return frozenset(wider)


@cache
def all_terms() -> tuple[Term, ...]:
    """Return all anatomy and findings, in the order of the file; the names of taxonomies are not among them."""
    return tuple(entry for branch, entry, _ in _rows() if branch not in _TAXONOMIES | {"negative", "view plane"})


MODALITIES: tuple[Term, ...] = _branches()["modality"]
"""The 13 imaging modalities (arXiv 2411.14522, Table 3 and Figure 3a)."""

DEPARTMENTS: tuple[Term, ...] = _branches()["department"]
"""The 18 departments of GMAI-MMBench, which GMAI-VL-5.5M uses too."""

CLINICAL_TASKS: tuple[Term, ...] = _branches()["clinical task"]
"""The 18 clinical VQA tasks of GMAI-MMBench."""

GRANULARITIES: tuple[Term, ...] = _branches()["granularity"]
"""What a question looks at: image, box, mask, contour (GMAI-MMBench)."""

SUBSETS = ("caption", "percept", "instruct", "text-single", "text-multi")
"""The five sub-datasets of GMAI-VL-5.5M (arXiv 2411.14522, Table 6)."""


def _named(name: str, kind: str, entries: tuple[Term, ...]) -> Term:
    for entry in entries:
        if entry.en.lower() == name.lower():
            return entry
    raise UserError(f"`{name}` is no {kind}; {nearest(name, (entry.en for entry in entries))}")


def modality(name: str) -> Term:
    """Return the modality called `name` in English, in any letter case. Raises UserError, naming the nearest."""
    return _named(name, "modality", MODALITIES)


def department(name: str) -> Term:
    """Return the department called `name` in English, in any letter case. Raises UserError, naming the nearest."""
    return _named(name, "department", DEPARTMENTS)


def clinical_task(name: str) -> Term:
    """Return the clinical task called `name` in English, in any letter case. Raises UserError, naming the nearest."""
    return _named(name, "clinical task", CLINICAL_TASKS)


def granularity(name: str) -> Term:
    """Return the granularity called `name` in English, in any letter case. Raises UserError, naming the nearest."""
    return _named(name, "granularity", GRANULARITIES)


def term(name: str) -> Term:
    """Return the anatomy or finding called `name` in English, with its Chinese where the vocabulary has it.

    An unknown name is a term too, without Chinese: sources bring labels that no vocabulary lists.
    """
    known = _by_lower_name().get(name.lower())
    return known[1] if known else Term(name)


def branch(name: str) -> tuple[Term, ...]:
    """Return the terms of the branch `name`, in the order of the vocabulary. Raises KeyError if there is none."""
    return _branches()[name]


def branch_of(label: Term) -> str | None:
    """Return the branch of anatomy or findings that `label` stands in; None if the vocabulary does not have it."""
    known = _by_lower_name().get(label.en.lower())
    return known[0] if known else None


def siblings(label: Term) -> tuple[Term, ...]:
    """Return the other terms of the branch that `label` stands in; none if the vocabulary does not have it."""
    own = branch_of(label)
    return () if own is None else tuple(other for other in branch(own) if other.en.lower() != label.en.lower())


@lru_cache(maxsize=1 << 16)
def is_within(one: Term, other: Term) -> bool:
    """Say whether `one` is a kind of `other`, a part of it or something that lies in it, or has all words of its name.

    Where there is a glioma, there is a brain tumor; where there is a liver cyst, there is a liver.
    """
    name, other_name = one.en.lower(), other.en.lower()
    return other_name in _wider(name) or set(other_name.split()) <= set(name.split())


@lru_cache(maxsize=1 << 16)
def overlap(one: Term, other: Term) -> bool:
    """Say whether both names may be right for one thing: one is within the other, or they read alike in Chinese."""
    return is_within(one, other) or is_within(other, one) or _reads_alike(one, other)


def akin(one: Term, other: Term) -> bool:
    """Say whether the two are one kind of thing, more or less exactly named: kidney and left kidney, polyp and adenoma.

    A liver and a liver cyst overlap but are not akin.
    """
    same_branch = branch_of(one) is not None and branch_of(one) == branch_of(other)
    same_noun = one.en.lower().split()[-1:] == other.en.lower().split()[-1:]
    return _reads_alike(one, other) or ((same_branch or same_noun) and overlap(one, other))


def may_come_with(label: Term, given: Term) -> bool:
    """Say whether `label` may be true of an image that is annotated as `given` and not as `label`.

    It may if `given` is within it, and also if it is a finer kind of `given`, which the annotator may have left open:
    a glioma where a brain tumor is. But where a liver is annotated and no liver cyst, there is none.
    """
    return is_within(given, label) or akin(label, given)


def _reads_alike(one: Term, other: Term) -> bool:
    return one.zh is not None and one.zh == other.zh
