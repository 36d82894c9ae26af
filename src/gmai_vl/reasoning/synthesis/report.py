"""What a rejection sampling came to: yields, reasons of rejection, costs; a function of answers and recipe alone."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gmai_vl import __version__
from gmai_vl.evaluation import Question
from gmai_vl.reasoning.synthesis.answers import Answer, Key
from gmai_vl.reasoning.synthesis.checks import CHECKS, plain_thought
from gmai_vl.reasoning.synthesis.judging import CHOSEN_BY, Judged
from gmai_vl.reasoning.synthesis.recipe import SynthesisRecipe

USE = "research use only, not for diagnosis"

GROUPS = ("source", "form", "modality")
"""Columns of the questions that yields are given by."""


def report_of(
    recipe: SynthesisRecipe,
    identity: Mapping[str, Any],
    questions: Sequence[Question],
    lines: Sequence[Answer],
    answers: Mapping[Key, Answer],
    judged: Sequence[Judged],
) -> dict[str, Any]:
    """Return the report: of `questions`, all `lines` of the store and the last of every try, and what was judged."""
    keys = [(question.id, number) for question in questions for number in range(1, recipe.tries + 1)]
    last = [answers[key] for key in keys if key in answers]
    refused = [answer for answer in last if answer.refused is not None]
    kept = [each for each in judged if not each.reasons]
    return {
        "form": "reasoning-traces",
        "tool_version": __version__,
        "use": USE,
        "asked": dict(identity),
        "recipe": recipe.model_dump(mode="json"),
        "questions": _questions(questions, kept),
        "tries": {
            "asked_for": len(keys),
            "answered": len(judged),
            "refused": len(refused),
            "not_asked": len(keys) - len(last),
            "right": sum("answer" in each.checks and each.checks["answer"] is True for each in judged),
            "passed": sum(each.passed for each in judged),
            "kept": len(kept),
            "rejected": len(judged) - len(kept),
        },
        "by_try": {
            str(number): _yield([each for each in judged if each.answer.number == number])
            for number in range(1, recipe.tries + 1)
        },
        "by": {group: _by(questions, judged, group) for group in GROUPS},
        "reasons": _counted(judged, lambda each: each.reasons),
        "only_reason": _counted(judged, lambda each: each.reasons if len(each.reasons) == 1 else ()),
        "refused": _sorted(Counter(str(answer.refused) for answer in refused)),
        "facts": _facts(judged),
        "alike": _alike([each for each in judged if each.passed]),
        "tokens": {
            "prompt": sum(line.prompt_tokens or 0 for line in lines),
            "answer": sum(line.answer_tokens or 0 for line in lines),
        },
        "usd": _usd(recipe, lines),
        "seconds": round(sum(line.seconds for line in lines), 1),
    }


def _questions(questions: Sequence[Question], kept: Sequence[Judged]) -> dict[str, int]:
    with_trace = len({each.question.id for each in kept})
    return {"all": len(questions), "with_trace": with_trace, "without_trace": len(questions) - with_trace}


def _yield(judged: Sequence[Judged]) -> dict[str, int]:
    return {
        "answered": len(judged),
        "passed": sum(each.passed for each in judged),
        "kept": sum(not each.reasons for each in judged),
    }


def _by(questions: Sequence[Question], judged: Sequence[Judged], group: str) -> dict[str, dict[str, int]]:
    told = {question.id: question.labels.get(group) or "not given" for question in questions}
    result = {}
    for value in sorted(set(told.values())):
        those = [each for each in judged if told[each.question.id] == value]
        members = [question for question in questions if told[question.id] == value]
        result[value] = _questions(members, [each for each in those if not each.reasons]) | _yield(those)
    return result


def _counted(judged: Sequence[Judged], reasons: Callable[[Judged], Sequence[str]]) -> dict[str, int]:
    counts = Counter(name for each in judged for name in reasons(each))
    return {name: counts[name] for name in (*CHECKS, "facts", *CHOSEN_BY) if counts[name]}


def _facts(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return what the annotation says to the thoughts: `silent` where it knows the case and no statement is judged."""
    told = [each.facts for each in judged if each.facts is not None]
    known = [facts for facts in told if facts.unknown is None]
    return {
        "contradicted": sum(bool(facts.contradicted) for facts in known),
        "borne_out": sum(not facts.contradicted and facts.borne_out > 0 for facts in known),
        "silent": sum(not facts.contradicted and facts.borne_out == 0 for facts in known),
        "unknown": _sorted(Counter(facts.unknown for facts in told if facts.unknown is not None)),
    }


def _alike(passed: Sequence[Judged]) -> dict[str, int]:
    """Return how many thoughts stand with several questions, and in how many traces that pass."""
    asked: dict[str, set[str]] = {}
    for each in passed:
        asked.setdefault(plain_thought(each.thought or ""), set()).add(each.question.id)
    shared = {plain for plain, ids in asked.items() if len(ids) > 1}
    return {"thoughts": len(shared), "traces": sum(plain_thought(each.thought or "") in shared for each in passed)}


def _usd(recipe: SynthesisRecipe, lines: Sequence[Answer]) -> float | None:
    if recipe.prices is None:
        return None
    prompt = sum(line.prompt_tokens or 0 for line in lines) * recipe.prices.prompt
    return (prompt + sum(line.answer_tokens or 0 for line in lines) * recipe.prices.answer) / 1e6


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
