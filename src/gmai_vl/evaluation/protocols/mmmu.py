"""`mmmu`: MMMU's own scorer (MMMU-Benchmark/MMMU bb0b95a9), which draws a letter where it finds none.

*Multiple choice.* The marks , . ! ? ; : ' come off both ends, once each and in that order, and the rest is padded with
a blank. Then the first of these that finds anything: a letter in brackets, "(B)"; a letter between blanks, " B "; and
in a response of more than five words the text of an option, whatever its case. Of several the one whose last occurrence
is latest; the first option where they begin together. Nothing found: a random letter, of a generator that was seeded
with 42 once, so that it depends on all draws before it. Only capital letters are seen, and none before a dot or colon
inside the text; the article at the start of "A fracture" is the letter A.

*Open.* See `mmmu_open`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from gmai_vl.evaluation.protocols.mmmu_open import judge_open
from gmai_vl.evaluation.protocols.protocol import Protocol, Verdict, chosen, judge_each, options_of
from gmai_vl.evaluation.question import Question

SEED = 42
"""Of the generator that draws letters; the scorer seeds it as it is imported."""

LONG_WORDS = 5
"""A response of more words may be recognised by the text of an option."""

_STRIPPED = ",.!?;:'"


class Form(NamedTuple):
    """How a letter may stand in a response; `{}` is the letter."""

    seen: str
    """What makes it a candidate."""

    placed: str
    """What tells the last of several candidates; where none stands like that it is the first option."""


_BRACKETS = Form("({})", "({})")

FORMS = (_BRACKETS, Form(" {} ", " {} "))

LOOSE_FORMS = (_BRACKETS, Form("{} ", " {} "), Form("{}.", " {} "))
"""Those of lmms-eval and MMMU-Pro, which took over the places of MMMU's second form with the candidates of others."""


def letter_in(options: Mapping[str, str], response: str, forms: Sequence[Form] = FORMS) -> str | None:
    """Return the letter that the response names, by the first of `forms` that finds one or else by an option's text."""
    for mark in _STRIPPED:
        response = response.strip(mark)
    response = f" {response} "
    for form in forms:
        if seen := [letter for letter in options if form.seen.format(letter) in response]:
            return max(seen, key=lambda letter: response.rfind(form.placed.format(letter)))
    if len(response.split()) <= LONG_WORDS:
        return None
    lowered = response.lower()
    return _latest({letter: lowered.rfind(text.lower()) for letter, text in options.items()})


def _latest(places: Mapping[str, int]) -> str | None:
    """Return the letter that stands last; None where all places are -1."""
    letter = max(places, key=lambda letter: places[letter])
    return letter if places[letter] >= 0 else None


def found_or_drawn(question: Question, letter: str | None, generator: Random) -> Verdict:
    """Return the verdict on `letter`, or on a drawn one where none was found."""
    if letter is not None:
        return chosen(question, letter)
    return chosen(question, generator.choice(list(options_of(question))), unparsed=True, guessed=True)


def _choice(generator: Random, question: Question, response: str) -> Verdict:
    return found_or_drawn(question, letter_in(options_of(question), response), generator)


def _judge(questions: Sequence[Question], responses: Mapping[str, str]) -> list[Verdict]:
    return judge_each({"mcq": partial(_choice, Random(SEED)), "open": judge_open}, questions, responses)


MMMU = Protocol(
    name="mmmu",
    source="MMMU-Benchmark/MMMU bb0b95a9",
    kinds=("mcq", "open"),
    about="MMMU's own: letters by form, then option texts, then a random letter (seed 42); open answers by substring",
    judge=_judge,
)
