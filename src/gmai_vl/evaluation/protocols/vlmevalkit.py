"""`vlmevalkit`: VLMEvalKit's `can_infer` without a judge, `exact_matching` (open-compass/VLMEvalKit e8e78f05).

In this order:
1. A refusal is "Z". The sentences are taken as those with a part of `_REFUSALS`.
2. The marks of `_MARKS` become blanks. Exactly one option letter among the words, and it is one of the last five: that
   letter, the article "A" as well. No option letter, but Z: "Z".
3. "answer is", whatever its case, `**` or not, and one of A-D: that letter. E and beyond are not covered, and it is
   taken as no matter what follows the letter, so that "answer is bleeding" is B.
4. In a response at most twice as long as all option texts together, exactly one option text that occurs in it.
5. "Z", which is wrong.

"Z" counts as unparsed. An open question becomes multiple choice once the response is there: A is the gold answer, B is
"Other Answers", and A is right. So the response "A lesion" is right for whatever was wanted.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, chosen, judge_each, options_of
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind

NO_LETTER = "Z"

_REFUSALS = (
    "can't help with images",
    "can't process this file",
    "sorry, but without the image",
    "annot determine the answer",
)
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 5
_ANSWER_IS = re.compile(r"answer is\s+(?:\*\*)?([A-D])", re.I)


def _choice(question: Question, response: str) -> Verdict:
    options = options_of(question)
    letter = _by_letter(options, response) or _by_text(options, response) or NO_LETTER
    return chosen(question, letter, unparsed=letter == NO_LETTER)


def _by_letter(options: Mapping[str, str], response: str) -> str | None:
    if any(refusal in response for refusal in _REFUSALS):
        return NO_LETTER
    words = response.translate(_MARKS).split()
    letters = [letter for letter in options if letter in words]
    if len(letters) == 1 and letters[0] in words[-_LAST_WORDS:]:
        return letters[0]
    if not letters and NO_LETTER in words:
        return NO_LETTER
    stated = _ANSWER_IS.search(response)
    return stated[1].upper() if stated else None


def _by_text(options: Mapping[str, str], response: str) -> str | None:
    if len(response) > 2 * sum(len(text) for text in options.values()):
        return None
    found = [letter for letter, text in options.items() if text.lower() in response.lower()]
    return found[0] if len(found) == 1 else None


def _open(question: Question, response: str) -> Verdict:
    options = {"A": question.reference, "B": "Other Answers"}
    return _choice(replace(question, options=options, answer="A"), response)


_RULES: dict[Kind, Rule] = {"mcq": _choice, "open": _open}

VLMEVALKIT = Protocol(
    name="vlmevalkit",
    source="open-compass/VLMEvalKit e8e78f05",
    kinds=tuple(_RULES),
    about="VLMEvalKit without a judge: a lone letter near the end, A-D behind 'answer is', an option text, else wrong",
    judge=partial(judge_each, _RULES),
)
