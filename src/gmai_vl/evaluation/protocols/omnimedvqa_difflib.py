"""`omnimedvqa-difflib`: OmniMedVQA's question-answering score (OpenGVLab/Multi-Modality-Arena bd2999a3).

The option whose text is most similar to the whole response, by difflib's ratio, is its answer; the first of equals,
for a later one must be strictly better. It is right where its text equals the gold text, so that an option that occurs
twice is right in both places. Where nothing is similar at all the reference fails within, and the item is wrong.
Upper case is a difference. A response that is only a letter is answered almost by chance.
"""

from functools import partial

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, chosen_text, judge_each, options_of
from gmai_vl.evaluation.protocols.tokens import most_similar
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind


def _choice(question: Question, response: str) -> Verdict:
    letter, likeness = most_similar(options_of(question), response)
    if not likeness:
        return Verdict(correct=False, unparsed=True, choice=None, text="", credit=0.0)
    return chosen_text(question, letter)


_RULES: dict[Kind, Rule] = {"mcq": _choice}

OMNIMEDVQA_DIFFLIB = Protocol(
    name="omnimedvqa-difflib",
    source="OpenGVLab/Multi-Modality-Arena bd2999a3",
    kinds=tuple(_RULES),
    about="OmniMedVQA's own: the option most similar to the whole response; letters alone come out almost by chance",
    judge=partial(judge_each, _RULES),
)
