"""`multimedeval`: MultiMedEval's sets of words (corentin-ryr/MultiMedEval d9ac283f).

Words count once, taken as lower-cased and without punctuation. *Open*: the number is the recall of the reference's
words, which is the credit; an answer is right from a recall of 0.75. *Closed*: the reference "no" becomes the two words
no and not, and an answer is right from a recall of 0.4. So "not" alone is right for "no", and "yes and no" is right for
both. BLEU-1 and F1 over everything are not given.
"""

import re
from functools import partial

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, judge_each
from gmai_vl.evaluation.protocols.tokens import overlap
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind

OPEN_FROM = 0.75
CLOSED_FROM = 0.4
_DENIALS = {"no", "not"}


def _words(text: str) -> set[str]:
    return set(re.sub(r"[^\w\s]|_", "", text.lower()).split())


def _open(question: Question, response: str) -> Verdict:
    said = _words(response)
    recall = overlap(said, _words(question.reference)).recall
    text = " ".join(sorted(said))
    return Verdict(correct=recall >= OPEN_FROM, unparsed=not said, choice=None, text=text, credit=recall)


def _closed(question: Question, response: str) -> Verdict:
    said, gold = _words(response), _words(question.reference)
    of_yes_or_no = gold in ({"yes"}, {"no"})
    wanted = _DENIALS if gold == {"no"} else gold
    correct = overlap(said, wanted).recall >= CLOSED_FROM
    spoken = ["yes"] * ("yes" in said) + ["no"] * bool(said & _DENIALS)
    return Verdict(
        correct=correct,
        unparsed=not (spoken if of_yes_or_no else said),
        choice=spoken[0] if len(spoken) == 1 else None,
        text=" ".join(sorted(said)),
        credit=float(correct),
    )


_RULES: dict[Kind, Rule] = {"closed": _closed, "open": _open}

MULTIMEDEVAL = Protocol(
    name="multimedeval",
    source="corentin-ryr/MultiMedEval d9ac283f",
    kinds=tuple(_RULES),
    about="MultiMedEval: recall of words; open right from 0.75, closed from 0.4, where 'not' alone counts as no",
    judge=partial(judge_each, _RULES),
)
