"""Holds a sample in a model's words against its case: every question and answer, by what its route asks for."""

import re
from collections.abc import Mapping
from typing import Any

from gmai_vl.records import Finding, Sample
from gmai_vl.vocabulary import Language, Term
from gmai_vl.writing.claims.check import CHECKS, check_text
from gmai_vl.writing.claims.closed import is_open
from gmai_vl.writing.claims.form import Role
from gmai_vl.writing.claims.labels import is_supported, means, missing_labels, says_normal
from gmai_vl.writing.claims.reading import read
from gmai_vl.writing.claims.words import pattern, patterns_of
from gmai_vl.writing.markup import parse_boxes, share_box
from gmai_vl.writing.verify_captions import check_caption
from gmai_vl.writing.verify_facts import MeasuredCase

_CHOICE = re.compile(r"\bor\b|\bwhich\b|\bhow many\b|还是|哪|多少|几")
_OF_STATEMENTS = frozenset({"complete", "denied", "unsupported", "hedged"})
"""Checks of what a text says, which a question does not."""

_OF_ANY_QUESTION = frozenset({"invented", "markup", "language", "residue", "length", "repetition"})
_LISTS = re.compile(r"\bor\b|还是|:|：|、[^、]*、")
_OF_CHOICES = frozenset({"side", "position", "laterality", "relation", "count", "numbers", "size", "grade"})
"""Checks of what a question may offer to choose among."""

_SHORT = 12
"""Characters up to which two answers may be the same: yes, no, 是."""


def check_written(sample: Sample, case: MeasuredCase) -> dict[str, bool | str]:
    """Return check -> True, or what is wrong; of a conversation the names begin with the number of the round."""
    told, language = sample.provenance.facts, sample.language
    texts = [turn.text for turn in sample.turns]
    finding = None if told["finding"] is None else case.findings[told["finding"]]
    checks: dict[str, bool | str] = {"before": _before(texts[0], told, finding, language, case)}
    for number in range(len(texts) // 2):
        asked, said = texts[2 * number], texts[2 * number + 1]
        question = asked.removeprefix(told["before"]).strip() if number == 0 else asked
        of_round = check_round(question, said, told["route"], finding, language, case)
        checks |= {f"{number}.{name}" if len(texts) > 2 else name: result for name, result in of_round.items()}
    if len(texts) > 2:
        twice = [text for text in texts if texts.count(text) > 1 and len(text) > _SHORT]
        checks["rounds"] = not twice or f"`{twice[0][:60]}` stands twice"
    if told["route"].startswith("text-"):
        own = " ".join([texts[0].removeprefix(told["before"]), *texts[1:]])
        labels = [one.label for one in case.findings]
        checks["speaks"] = _tells_of(own, labels, language, case) or "speaks of nothing that the report tells"
    return checks


def _before(
    asked: str, told: Mapping[str, Any], finding: Finding | None, language: Language, case: MeasuredCase
) -> bool | str:
    """Check what stands before the model's words: a question, a marked region, a statement; all by template.

    A translation has its statement in its first question, which is then read as a caption.
    """
    before = told["before"]
    if not asked.startswith(before):
        return f"the question does not begin with `{before[:60]}`"
    if told["route"].startswith("text-"):
        checks = check_caption(before, language, case) if before else check_text(asked, "caption", language, case)
        faults = {name: result for name, result in checks.items() if result is not True}
        return not faults or str(faults)
    if finding is None:
        return True
    assert finding.box is not None
    boxes = [box for _, box in parse_boxes(before)]
    return boxes == [share_box(finding.box, case.width, case.height)] or f"{boxes} is not the region"


def check_round(
    question: str, said: str, route: str, finding: Finding | None, language: Language, case: MeasuredCase
) -> dict[str, bool | str]:
    """Return check -> True, or what is wrong, of one question and its answer, or of a caption.

    `finding` is the one that a region's text speaks of, None for the whole image; a caption has no question of its own.
    """
    about = None if finding is None else [finding]
    if route in ("caption", "region-caption"):
        role: Role = "caption" if route == "caption" else "region-caption"
        return check_text(said, role, language, case, about)
    checks = check_text(said, "answer", language, case, about, question)
    checks["question"] = _question(question, language, case, finding)
    labels = [one.label for one in (case.findings if finding is None else about or [])]
    if route.endswith("percept"):
        checks["complete"] = _names_all(said, labels, language, case)
        checks["asks"] = not _names_any(question, labels, language, case) or "the question gives its answer away"
    elif route == "instruct":
        told = _tells_of(f"{question} {said}", labels, language, case)
        checks["complete"] = told or "names nothing that the annotation gives"
    return checks


def _question(question: str, language: Language, case: MeasuredCase, finding: Finding | None) -> bool | str:
    """Check the form of a question, and that what it takes for granted is so.

    One that can be answered with yes or no takes nothing for granted; its answer is held against it.
    """
    checks = check_text(question, "question", language, case, None if finding is None else [finding])
    left_out = _OF_STATEMENTS if is_open(question, language) else frozenset(CHECKS) - _OF_ANY_QUESTION
    if _CHOICE.search(question.lower()):
        left_out |= _OF_CHOICES | ({"labels"} if _LISTS.search(question) else set())
    faults = [f"{name}: {result}" for name, result in checks.items() if result is not True and name not in left_out]
    return not faults or "; ".join(faults)


def _names_all(said: str, labels: list[Term], language: Language, case: MeasuredCase) -> bool | str:
    reading = read(said, language, case)
    if not labels:
        return says_normal(reading, case) or "does not say that there is nothing"
    missing = missing_labels(reading, labels)
    return not missing or f"does not name {', '.join(missing)}"


def _names_any(text: str, labels: list[Term], language: Language, case: MeasuredCase) -> bool:
    """Say whether a text names one of the labels, denied or not, or without labels that there is nothing."""
    reading = read(text, language, case)
    if not labels:
        return says_normal(reading, case)
    return any(means(mention, label, language) for mention in reading.mentions for label in labels)


def _tells_of(text: str, labels: list[Term], language: Language, case: MeasuredCase) -> bool:
    """Say whether a text speaks of what is annotated: a label that is or could have been given, or the image."""
    if _names_any(text, labels, language, case):
        return True
    reading = read(text, language, case)
    given = [label for label in (*case.label_set, *case.severity, case.body_part) if label is not None]
    if any(is_supported(mention, given, language) for mention in reading.mentions):
        return True
    of_image = (*patterns_of("modalities").values(), *patterns_of("planes").values())
    of_findings = [pattern(language, "generic")] if labels else []
    return any(kind.search(reading.text) for kind in (*of_image, *of_findings))
