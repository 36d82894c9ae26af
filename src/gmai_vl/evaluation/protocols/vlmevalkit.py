"""`vlmevalkit`: VLMEvalKit's `can_infer` without a judge, `exact_matching` (open-compass/VLMEvalKit e8e78f05).

In this order:
1. A refusal is "Z": one of four messages of models, told here by the parts `_REFUSALS`. The message of a failed call
   goes on with step 4.
2. The marks of `_MARKS` become blanks. Exactly one option letter among the words, and its first occurrence is one of
   the last four: that letter, the article "A" as well. No option letter, but Z: "Z".
3. "answer is", whatever its case and the blanks between, any number of stars, and one of A-D that is an option: that
   letter, no matter what follows it, so that "answer is bleeding" is B. E and beyond are not covered.
4. In a response at most twice as long as all option texts together, exactly one option text that occurs in it. Blanks
   at the ends of the response are taken as part of its length.
5. "Z", which is wrong.

"Z" counts as unparsed. An open question becomes multiple choice once the response is there: A is the gold answer, B is
"Other Answers", and A is right. So the response "A lesion" is right for whatever was wanted. But a gold answer that is
a capital letter itself is taken for the letter that is right: with "B" other answers are, with "C" nothing is.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from string import ascii_uppercase

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, chosen, judge_each, options_of
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind

NO_LETTER = "Z"

_REFUSALS = (
    "help with images of people yet",
    "I can't process this file",
    "but without the image provided",
    "Cannot determine the answer",
)
_FAILED_CALL = "Failed to obtain answer via API"
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 4  # the reference means five: its index must be greater than the length less five
_ANSWER_IS = re.compile(r"answer\s+is\s+\**([A-D])", re.I)


def _choice(question: Question, response: str) -> Verdict:
    options = options_of(question)
    letter = _by_letter(options, response) or _by_text(options, response) or NO_LETTER
    return chosen(question, letter, unparsed=letter == NO_LETTER)


def _by_letter(options: Mapping[str, str], response: str) -> str | None:
    if _FAILED_CALL in response:
        return None
    if any(refusal in response for refusal in _REFUSALS):
        return NO_LETTER
    words = response.translate(_MARKS).split()
    letters = [letter for letter in options if letter in words]
    if len(letters) == 1 and words.index(letters[0]) >= len(words) - _LAST_WORDS:
        return letters[0]
    if not letters and NO_LETTER in words:
        return NO_LETTER
    stated = _ANSWER_IS.search(response)
    return stated[1].upper() if stated and stated[1].upper() in options else None


def _by_text(options: Mapping[str, str], response: str) -> str | None:
    response = response.lower()
    if len(response) > 2 * sum(len(text) for text in options.values()):
        return None
    found = [letter for letter, text in options.items() if text.lower() in response]
    return found[0] if len(found) == 1 else None


def _open(question: Question, response: str) -> Verdict:
    gold = question.reference
    right = gold if len(gold) == 1 and gold in ascii_uppercase else "A"
    return _choice(replace(question, options={"A": gold, "B": "Other Answers"}, answer=right), response)


_RULES: dict[Kind, Rule] = {"mcq": _choice, "open": _open}

VLMEVALKIT = Protocol(
    name="vlmevalkit",
    source="open-compass/VLMEvalKit e8e78f05",
    kinds=tuple(_RULES),
    about="VLMEvalKit without a judge: a lone letter near the end, A-D behind 'answer is', an option text, else wrong",
    judge=partial(judge_each, _RULES),
)
