"""What the annotation of a case lets a text say: computed once, in both languages, before anything is written."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmai_vl.foundation import BadItem
from gmai_vl.records import Box, Case, Finding, Side
from gmai_vl.vocabulary import Language, Term, akin, branch, branch_of, may_come_with, modality, synonyms, term
from gmai_vl.writing.laterality import laterality_of
from gmai_vl.writing.measures import Measures, measures_of, percent_of
from gmai_vl.writing.relations import Pair, pairs_of

NO_FINDING = term("no finding")
YES = Term("yes", "是")
NO = Term("no", "否")

# The halves and parts are those of the picture, as the viewer sees it: never the patient's left or right.
HALVES: dict[str, Term] = {"left": Term("left half", "左半侧"), "right": Term("right half", "右半侧")}

POSITIONS: tuple[tuple[Term, ...], ...] = (
    (Term("upper left", "左上部"), Term("upper middle", "上方中部"), Term("upper right", "右上部")),
    (Term("middle left", "左侧中部"), Term("center", "中央"), Term("middle right", "右侧中部")),
    (Term("lower left", "左下部"), Term("lower middle", "下方中部"), Term("lower right", "右下部")),
)
"""[row][column] of a grid of thirds."""

SMALL, MEDIUM, LARGE = Term("small", "较小"), Term("medium", "中等"), Term("large", "较大")
SIZES = (SMALL, MEDIUM, LARGE)
SMALL_BELOW = 0.02
"""Share of the image area below which a finding is small."""
LARGE_FROM = 0.10
"""Share of the image area from which a finding is large."""

PLACED_BELOW = 2 / 3
"""A box this wide or high (share of the image) reaches every third: it has no position."""

DEFINITE_BRANCHES = frozenset(
    {
        "abdominal organ",
        "pelvic organ",
        "thoracic organ",
        "heart structure",
        "blood vessel",
        "brain structure",
        "muscle",
        "nervous tissue",
        "eye structure",
        "body part",
    }
)
"""Branches of things that a body has: "the liver", never "a liver", and nothing to count."""

NORMAL_BRANCHES = DEFINITE_BRANCHES | {"bone", "tissue", "cell"}
"""Branches of things that are there in health too: "no finding" is no answer beside them."""

_UNCOUNTED_BRANCHES = DEFINITE_BRANCHES | {"tissue", "eye disease", "skin disease", "negative"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingFacts:
    """What can be said of one finding."""

    label: Term

    box: Box | None
    """Pixels, half-open."""

    area_share: float | None
    """Area over image area, 0-1."""

    side: Side | None
    """Half of the image."""

    position: Term | None
    """Cell of the grid of thirds with the centre of the box; None for several pieces or a box that reaches too far."""

    near: tuple[Term, ...]
    """Other cells that a shift of 0.08 of the image would put the centre in: no fair distractors."""

    size: Term | None
    """Small, medium or large, from the area share."""

    one_piece: bool
    """Whether the mask, if there is one, is connected: otherwise the box may hold several things."""

    masked: bool
    """Whether there is a mask, so that the area share is that of the thing rather than of its box."""

    percent: int | None
    """Share of the image in whole percent."""

    laterality: Side | None
    """Side of the patient, where the orientation tells it."""

    measures: Measures | None
    """Lengths and area, where the pixel pitch is known and the mask is one piece."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseFacts:
    """What can be said of one case."""

    width: int
    height: int
    modality: Term
    plane: Term | None
    body_part: Term | None

    body_parts: tuple[Term, ...]
    """What the images of its source show, where that is known."""

    findings: tuple[FindingFacts, ...]

    absent: tuple[Term, ...]
    """Labels that the annotator had at hand and gave to nothing here, less those that may be true with a given one."""

    negative: Term | None
    """The label that says that nothing is there."""

    counted: tuple[Term, ...]
    """Labels whose findings are single instances, so that their number is the number of things in the image."""

    pairs: tuple[Pair, ...]
    """How findings lie to each other, where that is clear."""

    severity: tuple[Term, ...]
    """Grades of one thing, from the least to the most severe."""

    grade: Term | None
    """The one of them that this image has."""

    synonyms: dict[tuple[Term, Language], tuple[str, ...]]
    """Other names of the labels given, less those that are names of other labels of the annotator."""

    @property
    def labels(self) -> tuple[Term, ...]:
        """The labels given, each once, in the order of the findings."""
        return tuple(dict.fromkeys(finding.label for finding in self.findings))

    def of(self, label: Term) -> tuple[FindingFacts, ...]:
        """Return the findings of a label."""
        return tuple(finding for finding in self.findings if finding.label == label)

    def count(self, label: Term) -> int:
        """Return the number of findings of a label."""
        return len(self.of(label))

    def singles(self) -> tuple[FindingFacts, ...]:
        """Return the boxed findings that are the only one of their label."""
        return tuple(finding for finding in self.findings if finding.box and self.count(finding.label) == 1)

    def about(self, label: Term) -> tuple[Pair, ...]:
        """Return how the findings of a label lie to others."""
        return tuple(pair for pair in self.pairs if pair.subject == label)

    def as_json(self, subject: Term | None = None) -> dict[str, Any]:
        """Return the facts in English and numbers; of the findings only those of `subject`, where one is given."""
        told = self.findings if subject is None else self.of(subject)
        return {
            "width": self.width,
            "height": self.height,
            "modality": self.modality.en,
            "plane": self.plane.en if self.plane else None,
            "body_part": self.body_part.en if self.body_part else None,
            "negative": self.negative.en if self.negative else None,
            "absent": [label.en for label in self.absent],
            "counts": dict(sorted(Counter(finding.label.en for finding in self.findings).items())),
            "severity": [grade.en for grade in self.severity],
            "grade": self.grade.en if self.grade else None,
            "pairs": [
                {
                    "subject": pair.subject.en,
                    "other": pair.other.en,
                    "direction": pair.direction.en if pair.direction else None,
                    "contact": pair.contact.en if pair.contact else None,
                }
                for pair in (self.pairs if subject is None else self.about(subject))
            ],
            "findings": [
                {
                    "label": finding.label.en,
                    "box": list(finding.box) if finding.box else None,
                    "area_share": None if finding.area_share is None else round(finding.area_share, 6),
                    "side": finding.side,
                    "position": finding.position.en if finding.position else None,
                    "size": finding.size.en if finding.size else None,
                    "laterality": finding.laterality,
                    "percent": finding.percent,
                    "width_mm": finding.measures.width if finding.measures else None,
                    "height_mm": finding.measures.height if finding.measures else None,
                    "diameter": finding.measures.diameter.en if finding.measures else None,
                    "area": finding.measures.area.en if finding.measures else None,
                }
                for finding in told
            ],
        }


def facts_of(case: Case) -> CaseFacts:
    """Compute the facts of a case.

    Raises UserError if its modality is unknown to the vocabulary, BadItem if a label cannot stand in a text.
    """
    assert case.modality is not None, f"{case.case_id}: an annotated image has a modality"
    for label in (
        *case.label_set,
        *case.severity,
        *(finding.label for finding in case.findings),
        case.negative,
        case.body_part,
        *case.body_parts,
    ):
        if label is not None:
            _check_name(label)
    findings = tuple(_finding_facts(finding, case) for finding in case.findings)
    given = {finding.label for finding in findings}
    # True without being a finding: the body part, and that nothing is there.
    others = [other for other in (case.body_part, case.negative, case.negative and NO_FINDING) if other]
    true_names = {name.lower() for other in others for name in (other.en, other.zh) if name}

    def may_be_there(label: Term) -> bool:
        own_names = {name.lower() for name in (label.en, label.zh) if name}
        return bool(own_names & true_names) or any(may_come_with(label, other) for other in given)

    planes = {plane.en: plane for plane in branch("view plane")}
    return CaseFacts(
        width=case.width,
        height=case.height,
        modality=modality(case.modality),
        plane=planes[case.plane] if case.plane else None,
        body_part=case.body_part,
        body_parts=case.body_parts,
        findings=findings,
        absent=tuple(dict.fromkeys(label for label in case.label_set if not may_be_there(label))),
        negative=case.negative,
        counted=tuple(
            label for label in dict.fromkeys(f.label for f in findings) if _is_counted(label, case, findings)
        ),
        pairs=_pairs(case),
        severity=case.severity,
        grade=_grade(case),
        synonyms=_synonyms(case),
    )


def _pairs(case: Case) -> tuple[Pair, ...]:
    times = Counter(finding.label for finding in case.findings)
    return pairs_of(case, [finding for finding in case.findings if finding.box and times[finding.label] == 1])


def _grade(case: Case) -> Term | None:
    """Return the grade of the case; None unless exactly one of at least two grades is given."""
    labels = {finding.label for finding in case.findings} | ({case.negative} if case.negative else set())
    given = [grade for grade in case.severity if grade in labels]
    return given[0] if len(given) == 1 and len(case.severity) > 1 else None


def _synonyms(case: Case) -> dict[tuple[Term, Language], tuple[str, ...]]:
    labels = {finding.label for finding in case.findings}
    taken = {name.lower() for label in (*labels, *case.label_set) for name in (label.en, label.zh) if name}
    languages: tuple[Language, ...] = ("en", "zh")
    return {
        (label, language): tuple(name for name in synonyms(label, language) if name.lower() not in taken)
        for label in labels
        for language in languages
    }


def _check_name(label: Term) -> None:
    """Refuse a name that a reader, a model's tokenizer or our markup could take for something else than a name."""
    for name in (label.en, label.zh):
        if name is not None and (not name.strip() or "<" in name or ">" in name or not name.isprintable()):
            raise BadItem(f"label {name!r} is blank, or holds `<`, `>` or a control character; name it in `labels`")


def is_normal(label: Term) -> bool:
    """Say whether a label names what is there in health too, rather than a finding."""
    return branch_of(label) in NORMAL_BRANCHES


def size_of(area_share: float) -> Term:
    """Return small (under 2 % of the image), medium, or large (10 % and over)."""
    return SMALL if area_share < SMALL_BELOW else LARGE if area_share >= LARGE_FROM else MEDIUM


def _finding_facts(finding: Finding, case: Case) -> FindingFacts:
    one_piece = finding.mask is None or finding.box is None or _is_connected(finding.mask, finding.box)
    position, near = _place(finding.box, case.width, case.height) if finding.box and one_piece else (None, ())
    return FindingFacts(
        label=finding.label,
        box=finding.box,
        area_share=finding.area_share,
        side=finding.side if finding.box else None,
        position=position,
        near=near,
        size=size_of(finding.area_share) if finding.box and finding.area_share is not None else None,
        one_piece=one_piece,
        masked=finding.mask is not None,
        percent=percent_of(finding),
        laterality=laterality_of(finding, case),
        measures=measures_of(finding, case) if one_piece else None,
    )


def _place(box: Box, width: int, height: int) -> tuple[Term | None, tuple[Term, ...]]:
    x1, y1, x2, y2 = box
    if (x2 - x1) / width >= PLACED_BELOW or (y2 - y1) / height >= PLACED_BELOW:
        return None, ()
    cell = POSITIONS[3 * (y1 + y2) // (2 * height)][3 * (x1 + x2) // (2 * width)]
    x, y = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
    around = {POSITIONS[_third(y + dy)][_third(x + dx)] for dy in (-0.08, 0, 0.08) for dx in (-0.08, 0, 0.08)}
    return cell, tuple(sorted(around - {cell}, key=lambda other: other.en))


def _third(share: float) -> int:
    return min(2, max(0, int(share * 3)))


def _is_connected(mask_HW: np.ndarray, box: Box) -> bool:
    from scipy.ndimage import label as label_pieces

    x1, y1, x2, y2 = box
    pieces: int = label_pieces(mask_HW[y1:y2, x1:x2], structure=np.ones((3, 3)))[1]
    return pieces <= 1


def _is_counted(label: Term, case: Case, findings: tuple[FindingFacts, ...]) -> bool:
    own = [finding for finding in findings if finding.label == label]
    known = branch_of(label)
    if any(finding.label != label and akin(finding.label, label) for finding in findings):
        return False  # a left kidney beside it may or may not count among the kidneys
    if known in _UNCOUNTED_BRANCHES or not all(finding.box and finding.one_piece for finding in own):
        return False
    # A mask of an unknown label may be one class rather than one thing; several of them are surely things.
    return known is not None or case.task == "det" or len(own) > 1
