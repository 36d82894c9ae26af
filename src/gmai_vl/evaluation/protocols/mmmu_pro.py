"""`mmmu-pro`: MMMU-Pro's scorer (MMMU-Benchmark/MMMU bb0b95a9): what follows the last "Answer:", then by form.

What follows the last "Answer:" is accepted if exactly one option letter occurs anywhere in it, inside a word too:
"Answer: CT" is C. Otherwise the whole response goes through the forms of `lmms-eval`, and a random letter is drawn
where they find none. The reference does not seed its generator; here it is seeded as that of `mmmu`, so that a score
can be repeated.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from gmai_vl.evaluation.protocols.mmmu import LOOSE_FORMS, SEED, found_or_drawn, letter_in
from gmai_vl.evaluation.protocols.protocol import Protocol, Verdict, judge_each, options_of
from gmai_vl.evaluation.question import Question

_CUE = "Answer:"


def _choice(generator: Random, question: Question, response: str) -> Verdict:
    options = options_of(question)
    letter = _behind_cue(options, response) or letter_in(options, response, LOOSE_FORMS)
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
    about='MMMU-Pro\'s own: the only option letter behind the last "Answer:", then as lmms-eval with a random letter',
    judge=_judge,
)
