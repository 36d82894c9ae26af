"""Scores of a set of responses: overall, by group, with intervals that know of patients.

Protocol `strict`: answers are extracted by the rules of `extraction`; unparsed counts as wrong and is counted; a
grounding answer is right from a matched IoU of 0.5. `micro` is the share right of all questions, `macro` the plain
mean of the shares of the sources (datasets).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gmai_vl.evaluation.answers.extraction import extract, is_correct
from gmai_vl.evaluation.grounding import RIGHT_FROM, grounding_iou
from gmai_vl.evaluation.question import Question
from gmai_vl.evaluation.statistics import clustered, wilson
from gmai_vl.foundation import UserError

GROUPS = ("modality", "task", "language", "form", "kind", "source", "department", "clinical_task")
"""Fields of a question that scores are given by. A question without a value stands in no group of that name."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with the verdict on its response."""

    question: Question
    correct: bool
    unparsed: bool

    iou: float | None = None
    """Matched IoU of a grounding answer, 0 where unparsed; None for the other kinds."""


def judge(questions: Sequence[Question], responses: Mapping[str, str]) -> list[Judged]:
    """Return the verdict on the response to every question, in their order. Raises UserError if one has no response."""
    missing = [question.id for question in questions if question.id not in responses]
    if missing:
        raise UserError(
            f"predictions: {len(missing)} of {len(questions)} questions have no response, "
            f"the first is `{missing[0]}`; finish the run, or give the --limit that it had"
        )
    return [_judge(question, responses[question.id]) for question in questions]


def _judge(question: Question, response: str) -> Judged:
    if question.kind == "grounding":
        iou = grounding_iou(question, response)
        return Judged(question, iou is not None and iou >= RIGHT_FROM, iou is None, iou or 0.0)
    extracted = extract(question.kind, question.stem, question.options, response)
    correct = is_correct(question.kind, question.stem, question.options, question.reference, extracted)
    return Judged(question, correct, extracted.unparsed)


def score(judged: Sequence[Judged], *, benchmark: str, variant: str, protocol: str = "strict") -> dict[str, Any]:
    """Return the score as JSON data: n, n_unparsed, micro, macro, interval and groups.

    `interval` and the groups' intervals are clustered by patient; `intervals` holds Wilson's beside it. Where there
    are grounding questions, `mean_iou` is theirs. Groups of size 0 do not occur. Raises UserError if nothing was
    judged.
    """
    if not judged:
        raise UserError(f"{benchmark}: no questions to score; take a corpus whose test split has questions")
    overall = _summary(judged)
    groups = {name: _by(judged, name) for name in GROUPS}
    by_source = [group["accuracy"] for group in groups["source"].values()]
    ious = [entry.iou for entry in judged if entry.iou is not None]
    return {
        "benchmark": benchmark,
        "protocol": protocol,
        "variant": variant,
        "n": overall["n"],
        "n_unparsed": overall["n_unparsed"],
        "n_patients": overall["n_patients"],
        "micro": overall["accuracy"],
        "macro": sum(by_source) / len(by_source),
        "macro_over": "source",
        "interval": overall["interval"],
        "interval_method": "clustered",
        "intervals": {"clustered": overall["interval"], "wilson": list(wilson(overall["correct"], overall["n"]))},
        **({"mean_iou": sum(ious) / len(ious)} if ious else {}),
        "groups": groups,
    }


def _by(judged: Sequence[Judged], field: str) -> dict[str, dict[str, Any]]:
    members: dict[str, list[Judged]] = defaultdict(list)
    for entry in judged:
        value = getattr(entry.question, field)
        if value is not None:
            members[value].append(entry)
    return {value: _summary(members[value]) for value in sorted(members)}


def _summary(judged: Sequence[Judged]) -> dict[str, Any]:
    right = [entry.correct for entry in judged]
    patients = [entry.question.patient for entry in judged]
    return {
        "n": len(judged),
        "correct": sum(right),
        "accuracy": sum(right) / len(judged),
        "interval": list(clustered(right, patients)),
        "n_unparsed": sum(entry.unparsed for entry in judged),
        "n_patients": len(set(patients)),
    }
