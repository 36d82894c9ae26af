"""`lmms-eval`: MMMU and SLAKE as lmms-eval scores them (EvolvingLMMs-Lab/lmms-eval 75571cfe).

*Multiple choice.* The rules of `mmmu` with two changes: a letter needs only a blank behind it, so that "MRI " names I,
and after that step one looks for a letter before a dot. The random letter is taken as seeded with 42 as well.

*Closed and open.* SLAKE: equal after normalisation, whatever the type of question. Parentheses go, taken as with what
is in them; English and Chinese punctuation goes; wordings of yes and no become one, taken as those of SLAKE's answers;
x-ray becomes one spelling. 正常 becomes yes and 异常 no, which is right only where normality is asked for. Upper case
and blanks are taken as no difference. Lists keep their order: "Heart, Liver" is not "Liver, Heart".
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from gmai_vl.evaluation.protocols.mmmu import SEED, bracketed, found_or_drawn, letter_in
from gmai_vl.evaluation.protocols.protocol import Protocol, Verdict, judge_each, options_of
from gmai_vl.evaluation.question import Question


def _before_blank(letter: str) -> str:
    return f"{letter} "


def _before_dot(letter: str) -> str:
    return f"{letter}."


_FORMS = (bracketed, _before_blank, _before_dot)

_YES = ("yes", "是", "是的", "有", "包含", "可以", "正常")
_NO = ("no", "否", "不是", "没有", "不包含", "不可以", "异常")
_ONE_WORDING = {**dict.fromkeys(_YES, "yes"), **dict.fromkeys(_NO, "no")}

_PARENTHESIS = re.compile(r"\([^()]*\)|（[^（）]*）")
_X_RAY = re.compile(r"\bx\s?ray\b")  # the hyphen is gone by then


def _choice(generator: Random, question: Question, response: str) -> Verdict:
    return found_or_drawn(question, letter_in(options_of(question), response, _FORMS), generator)


def normalised(text: str) -> str:
    """Return an answer of SLAKE in the form in which answers are compared."""
    text = _PARENTHESIS.sub("", text).lower()
    text = "".join(character for character in text if not unicodedata.category(character).startswith("P"))
    text = _X_RAY.sub("xray", " ".join(text.split()))
    return _ONE_WORDING.get(text, text)


def _equal(question: Question, response: str) -> Verdict:
    text = normalised(response)
    correct = text == normalised(question.reference)
    choice = text if question.kind == "closed" and text in ("yes", "no") else None
    return Verdict(correct=correct, unparsed=not text, choice=choice, text=text, credit=float(correct))


def _judge(questions: Sequence[Question], responses: Mapping[str, str]) -> list[Verdict]:
    return judge_each({"mcq": partial(_choice, Random(SEED)), "closed": _equal, "open": _equal}, questions, responses)


LMMS_EVAL = Protocol(
    name="lmms-eval",
    source="EvolvingLMMs-Lab/lmms-eval 75571cfe",
    kinds=("mcq", "closed", "open"),
    about="lmms-eval: MMMU's letters, looser and with its random letter; SLAKE's answers equal after normalisation",
    judge=_judge,
)
