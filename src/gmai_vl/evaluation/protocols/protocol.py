"""What a protocol is: a named way to judge responses, ours or that of a reference with all its faults."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a protocol makes of one response."""

    correct: bool

    unparsed: bool
    """The reference could not extract anything, also where it then guessed."""

    choice: str | None
    """Letter for multiple choice (also one that the question lacks), `yes` or `no`, or None."""

    text: str
    """What was taken for the answer; empty where nothing was."""

    credit: float
    """0-1: recall, F1 or the like where the reference's number is no share of right answers; else float(correct)."""

    guessed: bool = False
    """The reference drew or forced an answer; `correct` says what came of it."""


Judge = Callable[[Sequence[Question], Mapping[str, str]], list[Verdict]]
"""From questions and id -> response to a verdict each, in the order of the questions: draws depend on it."""

Rule = Callable[[Question, str], Verdict]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """A named way to judge responses."""

    name: str

    source: str
    """Repository and commit that it reproduces."""

    kinds: tuple[Kind, ...]
    """Kinds of questions that it knows; ValueError for another."""

    about: str
    """One line that says what to expect."""

    judge: Judge
    """Every question needs a response and an answer."""

    by_likelihood: bool = False
    """Whether it judges losses of options, not what a model wrote."""


def judge_each(
    rules: Mapping[Kind, Rule], questions: Sequence[Question], responses: Mapping[str, str]
) -> list[Verdict]:
    """Judge every response by the rule for the kind of its question.

    Raises ValueError, naming the question, for a kind without a rule and for multiple choice whose answer is no letter
    of its options.
    """
    return [_rule_for(question, rules)(question, responses[question.id]) for question in questions]


def _rule_for(question: Question, rules: Mapping[Kind, Rule]) -> Rule:
    if question.kind not in rules:
        raise ValueError(f"{question.id}: no rule for kind {question.kind}; there are rules for {', '.join(rules)}")
    if question.kind == "mcq" and question.reference not in options_of(question):
        raise ValueError(f"{question.id}: the answer `{question.reference}` is no letter of {question.options}")
    return rules[question.kind]


def options_of(question: Question) -> dict[str, str]:
    """Return letter -> text; nothing where the question has no options."""
    return question.options or {}


def chosen(question: Question, letter: str | None, *, unparsed: bool = False, guessed: bool = False) -> Verdict:
    """Return the verdict on a multiple-choice answer that is right where it is the reference's letter."""
    correct = letter == question.reference
    text = options_of(question).get(letter or "", "")
    return Verdict(correct=correct, unparsed=unparsed, choice=letter, text=text, credit=float(correct), guessed=guessed)


def chosen_text(question: Question, letter: str) -> Verdict:
    """Return the verdict on a letter that is right where its option's text is the reference's, wherever that stands."""
    options = options_of(question)
    correct = options[letter] == options[question.reference]
    return Verdict(correct=correct, unparsed=False, choice=letter, text=options[letter], credit=float(correct))


def is_of(question: Question, benchmark: str) -> bool:
    """Say whether a question is of the benchmark: its source or its id begins with that name."""
    return any(name.lower().startswith(benchmark) for name in (question.source, question.id))
