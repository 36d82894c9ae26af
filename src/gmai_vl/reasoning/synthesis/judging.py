"""Which answers are kept as traces: all checks, then no thought twice; from the answers alone, and always the same."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gmai_vl.evaluation import Question
from gmai_vl.reasoning.items import About
from gmai_vl.reasoning.rewards import parts_of
from gmai_vl.reasoning.synthesis.answers import Answer, Key
from gmai_vl.reasoning.synthesis.checks import faults_of, plain_thought, thought_of
from gmai_vl.reasoning.synthesis.known import Facts, Thought, facts_of
from gmai_vl.reasoning.synthesis.recipe import Demands

UNKNOWN = "unknown: "
"""What the outcome of a check begins with that could not be made."""

CHOSEN_BY = ("duplicate", "alike", "surplus")
"""Reasons why a trace that passes is not kept: its thought stands in another one of the question, in too many of all,
or the question has enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """An answer, and why it is kept or not."""

    question: Question
    answer: Answer

    checks: Mapping[str, bool | str]
    """Name -> True, what is wrong, or `unknown: ` and why."""

    reasons: tuple[str, ...]
    """Names of what fails; nothing where it is kept."""

    facts: Facts | None
    """None where there is no thought to hold against the annotation."""

    @property
    def passed(self) -> bool:
        """Whether every check passes, kept or not."""
        return not set(self.reasons) - set(CHOSEN_BY)

    @property
    def thought(self) -> str | None:
        """The thought; None where none can be told."""
        return thought_of(self.answer)

    @property
    def said(self) -> str | None:
        """The answer part; None where none can be told."""
        parts = parts_of(self.answer.response) if self.thought is not None else None
        return parts[1] if parts else None


def judge_answers(
    questions: Sequence[Question],
    answers: Mapping[Key, Answer],
    tries: int,
    about: Mapping[str, About],
    folder: Path,
    demands: Demands,
    per_question: int,
) -> list[Judged]:
    """Return every answer of the first `tries` tries of each question, in their order, those refused left out.

    `folder` is that of the questions, which `about` is seen from. Kept are the first `per_question` of a question that
    pass, but none whose thought stands in another of the question, or in `most_alike` others already.
    """
    told = [
        (question, answers[question.id, number])
        for question in questions
        for number in range(1, tries + 1)
        if (question.id, number) in answers and answers[question.id, number].refused is None
    ]
    thoughts = [
        Thought(answer.key, question, thought)
        for question, answer in told
        if (thought := thought_of(answer)) is not None
    ]
    facts = facts_of(folder, thoughts, about)
    judged = [_judged(question, answer, facts.get(answer.key), demands) for question, answer in told]
    return _chosen(judged, demands.most_alike, per_question)


def _judged(question: Question, answer: Answer, facts: Facts | None, demands: Demands) -> Judged:
    faults = faults_of(question, answer, demands)
    checks: dict[str, bool | str] = {name: fault or True for name, fault in faults.items()}
    reasons = [name for name, fault in faults.items() if fault is not None]
    if facts is not None:
        checks["facts"] = _outcome(facts)
        if facts.contradicted or (facts.unknown is not None and demands.facts == "required"):
            reasons.append("facts")
    return Judged(question=question, answer=answer, checks=checks, reasons=tuple(reasons), facts=facts)


def _outcome(facts: Facts) -> bool | str:
    if facts.unknown is not None:
        return f"{UNKNOWN}{facts.unknown}"
    return f"the annotation contradicts: {' | '.join(facts.contradicted)[:300]}" if facts.contradicted else True


def _chosen(judged: Sequence[Judged], most_alike: int, per_question: int) -> list[Judged]:
    """Return all again, those that pass and are one too many with their reason."""
    kept_of: Counter[str] = Counter()
    kept_alike: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    chosen = []
    for each in judged:
        if each.reasons:
            chosen.append(each)
            continue
        plain = plain_thought(each.thought or "")
        if (each.question.id, plain) in seen:
            reason = "duplicate"
        elif kept_of[each.question.id] >= per_question:
            reason = "surplus"
        elif kept_alike[plain] >= most_alike:
            reason = "alike"
        else:
            reason = None
            kept_of[each.question.id] += 1
            kept_alike[plain] += 1
        seen.add((each.question.id, plain))
        chosen.append(each if reason is None else replace(each, reasons=(reason,)))
    return chosen
