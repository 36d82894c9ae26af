"""`multimedeval`: MultiMedEval's sets of words (corentin-ryr/MultiMedEval d9ac283f).

Words are normalised as `words` says and count once. *Open*: the number is the recall of the reference's words, which is
the credit; an answer is right from a recall of 0.75. *Closed*: questions whose reference is yes or no; the reference
"no" becomes the two words no and not, and an answer is right from a recall of 0.4. So "not" alone is right for "no",
and "yes and no" is right for both. A closed question with another reference is judged as an open one. BLEU-1 and F1
over everything are not given.
"""

from dataclasses import replace
from functools import partial

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, judge_each
from gmai_vl.evaluation.protocols.tokens import overlap
from gmai_vl.evaluation.protocols.words import words_of
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind

OPEN_FROM = 0.75
CLOSED_FROM = 0.4
_WANTED = {"yes": {"yes"}, "no": {"no", "not"}}


def _open(question: Question, response: str) -> Verdict:
    said = set(words_of(response))
    recall = overlap(said, set(words_of(question.reference))).recall
    text = " ".join(sorted(said))
    return Verdict(correct=recall >= OPEN_FROM, unparsed=not said, choice=None, text=text, credit=recall)


def _closed(question: Question, response: str) -> Verdict:
    as_open = _open(question, response)
    wanted = _WANTED.get(" ".join(words_of(question.reference)))
    if wanted is None:
        return replace(as_open, credit=float(as_open.correct))
    said = set(words_of(response))
    correct = overlap(said, wanted).recall >= CLOSED_FROM
    spoken = [answer for answer, words in _WANTED.items() if said & words]
    return replace(
        as_open,
        correct=correct,
        unparsed=not spoken,
        choice=spoken[0] if len(spoken) == 1 else None,
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
