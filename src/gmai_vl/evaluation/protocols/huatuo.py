"""`huatuo`: HuatuoGPT-Vision's scorer (fork xk-huang/HuatuoGPT-Vision dc72323d), multiple choice only.

1. The first letter a-n or A-N between two characters that are no part of a word, or the ends; before it 是 and 为 do as
   well. "a " and "A " are skipped. The letter need not be one of the options: the pronoun "I" is I, "A, not B" is A,
   "3-D" is D. Lower case stays and is wrong: "(b)" is not B.
2. The option whose text occurs in the response, whatever its case, by the latest last occurrence.
3. The most similar option, whatever its case, and the last of equals: forced, also where nothing is similar.

The fork hands over the whole record as its options, so that step 2 fails on a field that is no text; the options are
meant, and are taken.
"""

import re
from functools import partial

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, judge_each, options_of
from gmai_vl.evaluation.protocols.tokens import most_similar
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind

_LETTER = re.compile(r"(?:^|[\W是为])(?![aA] )([a-nA-N])(?!\w)")


def _choice(question: Question, response: str) -> Verdict:
    options = options_of(question)
    if stated := _LETTER.search(response):
        return _verdict(question, stated[1])
    lowered = {letter: text.lower() for letter, text in options.items()}
    places = {letter: response.lower().rfind(text) for letter, text in lowered.items()}
    latest = max(places, key=lambda letter: places[letter])
    if places[latest] >= 0:
        return _verdict(question, latest)
    last_of_equals = dict(reversed(lowered.items()))
    return _verdict(question, most_similar(last_of_equals, response.lower())[0], forced=True)


def _verdict(question: Question, letter: str, *, forced: bool = False) -> Verdict:
    correct = letter == question.reference
    return Verdict(
        correct=correct,
        unparsed=forced,
        choice=letter,
        text=options_of(question).get(letter.upper(), ""),
        credit=float(correct),
        guessed=forced,
    )


_RULES: dict[Kind, Rule] = {"mcq": _choice}

HUATUO = Protocol(
    name="huatuo",
    source="xk-huang/HuatuoGPT-Vision dc72323d, a fork",
    kinds=tuple(_RULES),
    about="HuatuoGPT-Vision: the first letter that stands alone, else the last option text, else the most similar one",
    judge=partial(judge_each, _RULES),
)
