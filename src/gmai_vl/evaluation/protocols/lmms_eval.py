"""`lmms-eval`: MMMU and SLAKE as lmms-eval scores them (EvolvingLMMs-Lab/lmms-eval 75571cfe).

*Multiple choice.* The rules of `mmmu` with other forms: a letter needs only a blank behind it, so that "MRI " names I,
and after that step one looks for a letter before a dot. Of several letters that are found in either way it is the last
between two blanks, and where none is, the first option. The harness seeds the generator with 0 as it starts; nothing
is taken as drawn from it before the letters.

*Open questions of MMMU.* See `mmmu_open`.

*Closed and other open ones.* SLAKE: equal after normalisation, whatever the type of question. In lower case,
parentheses go with what is in them, to the first that closes, and punctuation becomes a blank: ASCII's, its full-width
forms but the dot, and 、。｡《》【】. Then x-ray has one spelling and yes and no one wording each, where they are the
whole answer. 正常 becomes yes and 异常 no, which is right only where normality is asked for. Lists keep their order:
"Heart, Liver" is not "Liver, Heart".
"""

import re
import string
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from gmai_vl.evaluation.protocols.mmmu import LOOSE_FORMS, found_or_drawn, letter_in
from gmai_vl.evaluation.protocols.mmmu_open import judge_open
from gmai_vl.evaluation.protocols.protocol import Protocol, Verdict, is_of, judge_each, options_of
from gmai_vl.evaluation.question import Question

SEED = 0
"""Of the harness's generator, by default."""

_YES = ("yes", "yeah", "yep", "true", "是", "是的", "有", "包含", "可以", "能", "会", "正常")
_NO = ("no", "nope", "false", "否", "不是", "没有", "无", "不包含", "不可以", "不能", "不会", "不正常", "异常")
_ONE_WORDING = {"x ray": "xray", **dict.fromkeys(_YES, "yes"), **dict.fromkeys(_NO, "no")}

_PARENTHESES = (re.compile(r"\([^)]*\)"), re.compile(r"（[^）]*）"))
_TO_FULL_WIDTH = ord("！") - ord("!")
_FULL_WIDTH = "".join(chr(ord(mark) + _TO_FULL_WIDTH) for mark in string.punctuation if mark != ".")
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + _FULL_WIDTH + "、。｡《》【】", " "))


def _choice(generator: Random, question: Question, response: str) -> Verdict:
    return found_or_drawn(question, letter_in(options_of(question), response, LOOSE_FORMS), generator)


def normalised(text: str) -> str:
    """Return an answer of SLAKE in the form in which answers are compared."""
    text = text.lower()
    for parenthesis in _PARENTHESES:
        text = parenthesis.sub(" ", text)
    text = " ".join(text.translate(_PUNCTUATION).split())
    return _ONE_WORDING.get(text, text)


def _equal(question: Question, response: str) -> Verdict:
    text = normalised(response)
    correct = text == normalised(question.reference)
    choice = text if question.kind == "closed" and text in ("yes", "no") else None
    return Verdict(correct=correct, unparsed=not text, choice=choice, text=text, credit=float(correct))


def _open(question: Question, response: str) -> Verdict:
    return judge_open(question, response) if is_of(question, "mmmu") else _equal(question, response)


def _judge(questions: Sequence[Question], responses: Mapping[str, str]) -> list[Verdict]:
    return judge_each({"mcq": partial(_choice, Random(SEED)), "closed": _equal, "open": _open}, questions, responses)


LMMS_EVAL = Protocol(
    name="lmms-eval",
    source="EvolvingLMMs-Lab/lmms-eval 75571cfe",
    kinds=("mcq", "closed", "open"),
    about="lmms-eval: MMMU's letters, looser and with a random letter; SLAKE's answers equal after normalisation",
    judge=_judge,
)
