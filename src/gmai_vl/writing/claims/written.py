"""Holds a sample in a model's words against its case: every question and answer, by what its route asks for."""

import re
from collections.abc import Mapping
from typing import Any

from gmai_vl.records import Finding, Sample
from gmai_vl.vocabulary import Language, Term
from gmai_vl.writing.claims.check import check_text
from gmai_vl.writing.claims.form import Role, form_faults
from gmai_vl.writing.claims.labels import is_supported, missing_labels, says_normal
from gmai_vl.writing.claims.reading import names_of, read
from gmai_vl.writing.markup import parse_boxes, share_box
from gmai_vl.writing.verify_captions import check_caption
from gmai_vl.writing.verify_facts import MeasuredCase

_OPEN_QUESTION = re.compile(
    r"\b(?:what|where|which|how|why|describe|name|locate|point out)\b|什么|哪|何|如何|怎样|描述|指出|多少|几"
)
"""A question that takes what it names for granted; one that can be denied does not."""


def check_written(sample: Sample, case: MeasuredCase) -> dict[str, bool | str]:
    """Return check -> True, or what is wrong; of a conversation the names begin with the number of the round."""
    told, language = sample.provenance.facts, sample.language
    texts = [turn.text for turn in sample.turns]
    finding = None if told["finding"] is None else case.findings[told["finding"]]
    checks: dict[str, bool | str] = {"before": _before(texts[0], told, finding, language, case)}
    for number in range(len(texts) // 2):
        asked, said = texts[2 * number], texts[2 * number + 1]
        question = asked.removeprefix(told["before"]).strip() if number == 0 else asked
        of_round = _round(question, said, told["route"], finding, language, case)
        checks |= {f"{number}.{name}" if len(texts) > 2 else name: result for name, result in of_round.items()}
    return checks


def _before(
    asked: str, told: Mapping[str, Any], finding: Finding | None, language: Language, case: MeasuredCase
) -> bool | str:
    """Check what stands before the model's words: a question, a marked region, a statement; all by template."""
    before = told["before"]
    if not asked.startswith(before):
        return f"the question does not begin with `{before[:60]}`"
    if told["route"].startswith("text-"):
        faults = {name: result for name, result in check_caption(before, language, case).items() if result is not True}
        return not faults or str(faults)
    if finding is None:
        return True
    assert finding.box is not None
    boxes = [box for _, box in parse_boxes(before)]
    return boxes == [share_box(finding.box, case.width, case.height)] or f"{boxes} is not the region"


def _round(
    question: str, said: str, route: str, finding: Finding | None, language: Language, case: MeasuredCase
) -> dict[str, bool | str]:
    about = None if finding is None else [finding]
    if route in ("caption", "region-caption"):
        role: Role = "caption" if route == "caption" else "region-caption"
        return check_text(said, role, language, case, about)
    checks = check_text(said, "answer", language, case, about, question)
    checks["question"] = _question(question, route, language, case)
    labels = [one.label for one in (case.findings if finding is None else about or [])]
    if route.endswith("percept"):
        checks["complete"] = _names_all(said, labels, language, case)
        checks["asks"] = not _names_any(question, labels, language, case) or "the question gives its answer away"
    elif route == "instruct":
        named = _names_any(f"{question} {said}", labels, language, case)
        checks["complete"] = named or "names nothing that the annotation gives"
    return checks


def _question(question: str, route: str, language: Language, case: MeasuredCase) -> bool | str:
    """Check the form of a question, and that it takes nothing for granted that is not there."""
    faults = [reason for _, reason in form_faults(question, "question", language, case)]
    reading = read(question, language, case)
    if _OPEN_QUESTION.search(reading.text):
        own = [*(finding.label for finding in case.findings), *([case.body_part] if case.body_part else [])]
        faults += [
            f"asks about `{mention.label.en}`"
            for mention in reading.mentions
            if mention.said == "affirmed"
            and not is_supported(mention, own, language)
            and any(mention.label == label for label in case.label_set)
        ]
    return not faults or "; ".join(dict.fromkeys(faults))


def _names_all(said: str, labels: list[Term], language: Language, case: MeasuredCase) -> bool | str:
    reading = read(said, language, case)
    if not labels:
        return says_normal(reading, case) or "does not say that there is nothing"
    missing = missing_labels(reading, labels)
    return not missing or f"does not name {', '.join(missing)}"


def _names_any(text: str, labels: list[Term], language: Language, case: MeasuredCase) -> bool:
    reading = read(text, language, case)
    if not labels:
        return says_normal(reading, case)
    return any(name in reading.text for label in labels for name in names_of(label, language))
