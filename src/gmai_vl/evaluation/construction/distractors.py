"""Which labels are surely wrong answers to a question, by what the annotator could have said and did not."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gmai_vl.evaluation.construction.subjects import Subject, labels_of
from gmai_vl.records import Box, Case, Finding
from gmai_vl.vocabulary import Term, may_come_with, overlap, synonyms
from gmai_vl.writing.facts import NO_FINDING, is_normal

APART_BELOW = 0.25
"""Share of the marked region that regions of another label may cover before that label could be meant too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branches:
    """Labels that are alternatives to each other, beyond those that an annotator of one case had at hand."""

    negatives: dict[str, tuple[Term, ...]]
    """Source -> what it says where nothing is found."""

    akin: dict[tuple[str, str], tuple[Term, ...]]
    """Modality and clinical task -> the labels of all cases with both, from all sources; no negative ones."""


def branches_of(rows: Iterable[dict[str, Any]]) -> Branches:
    """Collect the branches from rows of the table `cases`, whatever order they come in."""
    negatives: dict[str, set[Term]] = defaultdict(set)
    akin: dict[tuple[str, str], set[Term]] = defaultdict(set)
    for row in rows:
        if row["negative"] is not None:
            negatives[row["source"]].add(Term(**row["negative"]))
        if row["modality"] is not None and row["clinical_task"] is not None:
            akin[row["modality"], row["clinical_task"]].update(Term(**label) for label in row["label_set"])
    nothing = {name for labels in negatives.values() for label in labels for name in names_of(label)}
    findings = {kind: [each for each in labels if not names_of(each) & nothing] for kind, labels in akin.items()}
    return Branches(
        negatives={source: _in_order(labels) for source, labels in negatives.items()},
        akin={kind: _in_order(labels) for kind, labels in findings.items()},
    )


def wrong_labels(case: Case, subject: Subject, branches: Branches) -> tuple[Term, ...]:
    """Return the labels that are surely wrong for `subject`, in the order of their names; none where none is sure.

    They are the labels that the annotator of the case could have given and that are not true of it: none that it is
    annotated with, none that names or includes one of those or is a finer kind of it. For a whole image with a finding,
    "nothing found" is wrong too; for a region, what the image shows apart from that region. Only where none is left,
    labels of other cases of the same modality and clinical task are taken that have nothing to do with any label of
    this one; an image without findings gets none of them, for nobody has looked for them there.
    """
    given = labels_of(case)
    could_be = (*case.label_set, *case.severity)
    own = [label for label in could_be if label != case.negative and not may_be_true(label, case)]
    if subject.finding is None:
        own += _negatives(case, branches)
    else:
        negatives = branches.negatives.get(case.source, ())
        own = [label for label in own if label not in negatives]  # the lowest grade may say that nothing is there
        own += [label for label in given if _is_apart(label, subject, case)]
    if not own and case.findings:
        assert case.modality is not None and case.clinical_task is not None, case.case_id
        own = [
            label
            for label in branches.akin.get((case.modality, case.clinical_task), ())
            if not may_be_true(label, case) and not any(overlap(label, other) for other in given)
        ]
    return _in_order(set(own))


def may_be_true(label: Term, case: Case) -> bool:
    """Say whether `label` is or may be true of `case`, by its names, their synonyms, and what is a kind of what."""
    given = [finding.label for finding in case.findings]
    # True without being a finding; compared by name only, for "no melanoma" is no kind of melanoma.
    others = [other for other in (case.body_part, case.negative, case.negative and NO_FINDING) if other]
    if names_of(label) & {name for other in (*given, *others) for name in names_of(other)}:
        return True
    return any(may_come_with(label, other) for other in given)


@lru_cache(maxsize=1 << 16)
def names_of(label: Term) -> frozenset[str]:
    """Return all names of a label in both languages, in one letter case."""
    names = (label.en, label.zh, *synonyms(label, "en"), *synonyms(label, "zh"))
    return frozenset(" ".join(name.casefold().split()) for name in names if name)


def distinct(labels: Iterable[Term], known: Sequence[Term] = ()) -> Iterator[Term]:
    """Yield the labels without those that share a name with one before them, or with one of `known`."""
    taken = {name for label in known for name in names_of(label)}
    for label in labels:
        if not names_of(label) & taken:
            yield label
            taken |= names_of(label)


def _negatives(case: Case, branches: Branches) -> list[Term]:
    """Return the negative labels of the source where something is found that is not there in health too."""
    given = [finding.label for finding in case.findings]
    if case.negative or not given or any(is_normal(label) or overlap(label, NO_FINDING) for label in given):
        return []
    taken = {name for label in given for name in names_of(label)}
    return [negative for negative in branches.negatives.get(case.source, ()) if not names_of(negative) & taken]


def _is_apart(label: Term, subject: Subject, case: Case) -> bool:
    """Say whether `label` stands elsewhere in the image only, and cannot be meant by the marked region."""
    assert subject.finding is not None
    if names_of(label) & names_of(subject.label) or overlap(label, subject.label):
        return False
    regions = [finding for finding in case.findings if finding.label == label]
    return all(
        finding.box is not None and _covered(subject.finding, finding, subject.granularity) < APART_BELOW
        for finding in regions
    )


def _covered(marked: Finding, other: Finding, granularity: str) -> float:
    """Return the share of the marked region that another one covers: of its box, or of its mask where both have one."""
    assert marked.box is not None and other.box is not None
    if granularity != "box" and marked.mask is not None and other.mask is not None:
        return float((marked.mask & other.mask).sum() / marked.mask.sum())
    x1, y1, x2, y2 = marked.box
    return _shared(marked.box, other.box) / ((x2 - x1) * (y2 - y1))


def _shared(one: Box, other: Box) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def _in_order(labels: Iterable[Term]) -> tuple[Term, ...]:
    return tuple(sorted(labels, key=lambda label: (label.en, label.zh or "")))
