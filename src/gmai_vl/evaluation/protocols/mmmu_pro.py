"""`mmmu-pro`: MMMU-Pro's scorer (MMMU-Benchmark/MMMU bb0b95a9): what follows the last "Answer:", then as `mmmu`.

What follows the last "Answer:" is accepted if exactly one option letter occurs anywhere in it, inside a word too:
"Answer: CT" is C. Otherwise the rules of MMMU, taken as on the whole response, and its random letter, taken as seeded
in the same way.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from gmai_vl.evaluation.protocols.mmmu import SEED, found_or_drawn, letter_in
from gmai_vl.evaluation.protocols.protocol import Protocol, Verdict, judge_each, options_of
from gmai_vl.evaluation.question import Question

_CUE = "Answer:"


def _choice(generator: Random, question: Question, response: str) -> Verdict:
    options = options_of(question)
    letter = _behind_cue(options, response) or letter_in(options, response)
    return found_or_drawn(question, letter, generator)


def _behind_cue(options: Mapping[str, str], response: str) -> str | None:
    """Return the only option letter behind the last cue."""
    _, cue, answer = response.rpartition(_CUE)
    letters = [letter for letter in options if letter in answer]
    return letters[0] if cue and len(letters) == 1 else None


def _judge(questions: Sequence[Question], responses: Mapping[str, str]) -> list[Verdict]:
    return judge_each({"mcq": partial(_choice, Random(SEED))}, questions, responses)


MMMU_PRO = Protocol(
    name="mmmu-pro",
    source="MMMU-Benchmark/MMMU bb0b95a9, mmmu-pro",
    kinds=("mcq",),
    about='MMMU-Pro\'s own: the only option letter behind the last "Answer:", then as mmmu with its random letter',
    judge=_judge,
)
