"""`default`: our own strict policy, that never guesses; see `answers.extraction` for its rules."""

from functools import partial

from gmai_vl.evaluation.answers.extraction import extract, is_correct
from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, judge_each
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind


def _judge(question: Question, response: str) -> Verdict:
    """Extract strictly; the reference and its alternatives are right."""
    kind, stem, options = question.kind, question.stem, question.options
    extracted = extract(kind, stem, options, response)
    answers = (question.reference, *question.alternatives)
    if extracted.unparsed and options and question.alternatives:
        # Its text names all options that are right, and none alone.
        named = {letter: text for letter, text in options.items() if letter not in question.alternatives}
        extracted = extract(kind, stem, named, response)
    correct = any(is_correct(kind, stem, options, answer, extracted) for answer in answers)
    return Verdict(
        correct=correct,
        unparsed=extracted.unparsed,
        choice=extracted.choice,
        text=extracted.text,
        credit=float(correct),
    )


_RULES: dict[Kind, Rule] = {"mcq": _judge, "closed": _judge, "open": _judge}

DEFAULT = Protocol(
    name="default",
    source="ours",
    kinds=tuple(_RULES),
    about="strict extraction in English and Chinese; what is ambiguous is unparsed, wrong and counted",
    judge=partial(judge_each, _RULES),
)
