"""What the annotation says to a thought: the case of each question is looked up, and the verifier reads the thought."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmai_vl.evaluation import Question
from gmai_vl.foundation import progress
from gmai_vl.reasoning.cases import Cases, find_cases
from gmai_vl.reasoning.items import About
from gmai_vl.reasoning.rewards.facts import verdicts_on  # one route for rewards and traces
from gmai_vl.reasoning.synthesis.answers import Key
from gmai_vl.writing import MeasuredCase
from gmai_vl.writing.claims.check import MOST_CHARACTERS


@dataclass(frozen=True, slots=True)
class Facts:
    """What the annotation says to one thought."""

    contradicted: tuple[str, ...] = ()
    """Statements of the thought that are wrong."""

    unknown: str | None = None
    """Why it could not be asked."""

    borne_out: int = 0
    """Statements that are right."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought that is to be held against the annotation."""

    key: Key
    question: Question
    text: str


def facts_of(folder: Path, thoughts: Sequence[Thought], about: Mapping[str, About]) -> dict[Key, Facts]:
    """Return what the annotation says to each thought; `about` tells the cases, seen from the folder of questions."""
    asked = {thought.question.id for thought in thoughts}
    cases = find_cases(folder, {id: about.get(id, About()) for id in asked})
    told = progress(thoughts, "held against the annotation", len(thoughts))
    return {thought.key: _facts(thought, cases) for thought in told}


def judged_by(case: MeasuredCase, question: Question, thought: str) -> Facts:
    """Hold the statements of a thought against the annotation of a case."""
    if len(thought) > MOST_CHARACTERS:
        return Facts(unknown=f"the thought has more than {MOST_CHARACTERS:,} characters, which the verifier reads")
    verdicts = dict(verdicts_on(thought, question.language, case))
    wrong = tuple(statement for statement, is_true in verdicts.items() if not is_true)
    return Facts(contradicted=wrong, borne_out=len(verdicts) - len(wrong))


def _facts(thought: Thought, cases: Cases) -> Facts:
    case = cases.of(thought.question.id)
    if case is None:
        return Facts(unknown=cases.unknown[thought.question.id])
    return judged_by(case, thought.question, thought.text)
