"""Scores of a set of responses: overall, by group, with intervals that know of patients.

Answers are judged by a protocol (`protocols`); unparsed counts as wrong and is counted. A grounding answer is right
from a matched IoU of 0.5, by the protocol `default` only. `micro` is the share right of all questions, `macro` the
plain mean of the shares of the sources (datasets).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gmai_vl.evaluation.grounding import RIGHT_FROM, grounding_iou
from gmai_vl.evaluation.protocols import PROTOCOLS
from gmai_vl.evaluation.question import Question
from gmai_vl.evaluation.statistics import bootstrap_mean, clustered, wilson
from gmai_vl.foundation import UserError, nearest

DEFAULT = "default"

FIELDS = ("modality", "task", "language", "form", "kind", "source", "department", "clinical_task")
"""Fields of a question that scores are given by, beside its `labels`. One without a value stands in no group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A question with the verdict on its response."""

    question: Question
    correct: bool
    unparsed: bool

    text: str = ""
    """What was read out of the response."""

    credit: float = 0.0
    """0-1: the protocol's own number where it is no share of right answers, such as recall; else 1 for right."""

    guessed: bool = False
    """The protocol drew or forced an answer where it could read none."""

    iou: float | None = None
    """Matched IoU of a grounding answer, 0 where unparsed; None for the other kinds."""


def judge(questions: Sequence[Question], responses: Mapping[str, str], protocol: str = DEFAULT) -> list[Judged]:
    """Return the verdict of a protocol on the response to every question, in their order.

    Raises UserError if a question has no response or its answer is withheld, or the protocol is unknown, or knows no
    questions of that kind.
    """
    _check(questions, responses, protocol)
    boxes = [question for question in questions if question.kind == "grounding"]
    words = [question for question in questions if question.kind != "grounding"]
    try:
        verdicts = PROTOCOLS[protocol].judge(words, responses)
    except ValueError as error:
        raise UserError(f"protocol {protocol}: {error}") from None
    judged = {question.id: _judge_boxes(question, responses[question.id]) for question in boxes}
    for question, verdict in zip(words, verdicts, strict=True):
        judged[question.id] = Judged(
            question=question,
            correct=verdict.correct,
            unparsed=verdict.unparsed,
            text=verdict.text,
            credit=verdict.credit,
            guessed=verdict.guessed,
        )
    return [judged[question.id] for question in questions]


def _check(questions: Sequence[Question], responses: Mapping[str, str], protocol: str) -> None:
    missing = [question.id for question in questions if question.id not in responses]
    if missing:
        raise UserError(
            f"predictions: {len(missing)} of {len(questions)} questions have no response, "
            f"the first is `{missing[0]}`; finish the run, or give the --limit that it had"
        )
    if withheld := [question.id for question in questions if question.answer is None]:
        raise UserError(
            f"{len(withheld)} questions have no answer to score by, the first is `{withheld[0]}`: its authors withhold "
            "them; hand in the predictions"
        )
    if protocol not in PROTOCOLS:
        raise UserError(f"--protocol {protocol}: no protocol of that name; {nearest(protocol, PROTOCOLS)}")
    known = {*PROTOCOLS[protocol].kinds, *(("grounding",) if protocol == DEFAULT else ())}
    if unknown := sorted({question.kind for question in questions} - known):
        raise UserError(
            f"--protocol {protocol}: has no rules for {' and '.join(unknown)} questions, only for "
            f"{', '.join(sorted(known))}; take another protocol"
        )


def _judge_boxes(question: Question, response: str) -> Judged:
    iou = grounding_iou(question, response)
    correct = iou is not None and iou >= RIGHT_FROM
    return Judged(question=question, correct=correct, unparsed=iou is None, credit=float(correct), iou=iou or 0.0)


def score(judged: Sequence[Judged], *, benchmark: str, variant: str, protocol: str = DEFAULT) -> dict[str, Any]:
    """Return the score as JSON data: n, n_unparsed, micro, macro, interval and groups.

    `interval` and the groups' intervals are clustered by patient; `intervals` holds Wilson's beside it. Where there
    are grounding questions, `mean_iou` is theirs; where a protocol gives parts of a point, `credit` is their mean with
    its interval. Groups of size 0 do not occur. Raises UserError if nothing was judged.
    """
    if not judged:
        raise UserError(f"{benchmark}: no questions to score; take a corpus whose test split has questions")
    overall = _summary(judged)
    by_source = [group["accuracy"] for group in _by(judged, "source").values()]
    ious = [entry.iou for entry in judged if entry.iou is not None]
    return {
        "benchmark": benchmark,
        "protocol": protocol,
        "variant": variant,
        "n": overall["n"],
        "n_unparsed": overall["n_unparsed"],
        "n_guessed": sum(entry.guessed for entry in judged),
        "n_patients": overall["n_patients"],
        "micro": overall["accuracy"],
        "macro": sum(by_source) / len(by_source),
        "macro_over": "source",
        "interval": overall["interval"],
        "interval_method": "clustered",
        "intervals": {"clustered": overall["interval"], "wilson": list(wilson(overall["correct"], overall["n"]))},
        **({"mean_iou": sum(ious) / len(ious)} if ious else {}),
        **_credit(judged),
        "groups": {name: _by(judged, name) for name in _group_names(judged)},
    }


def without(judged: Sequence[Judged], ids: Collection[str]) -> dict[str, Any] | None:
    """Return the score of the questions that are not among `ids`; None where none is left."""
    kept = [entry for entry in judged if entry.question.id not in ids]
    if not kept:
        return None
    summary = _summary(kept)
    return {"n": summary["n"], "micro": summary["accuracy"], "interval": summary["interval"]}


def _credit(judged: Sequence[Judged]) -> dict[str, Any]:
    credits = [entry.credit for entry in judged]
    if all(credit in (0.0, 1.0) for credit in credits):
        return {}
    patients = [entry.question.patient for entry in judged]
    return {"credit": {"mean": sum(credits) / len(credits), "interval": list(bootstrap_mean(credits, patients))}}


def _group_names(judged: Sequence[Judged]) -> list[str]:
    return list(dict.fromkeys([*FIELDS, *(name for entry in judged for name in entry.question.labels)]))


def _by(judged: Sequence[Judged], field: str) -> dict[str, dict[str, Any]]:
    members: dict[str, list[Judged]] = defaultdict(list)
    for entry in judged:
        question = entry.question
        value = question.labels.get(field) or (getattr(question, field) if field in FIELDS else None)
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
