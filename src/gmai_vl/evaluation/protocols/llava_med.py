"""`llava-med`: the word scores of LLaVA-Med's first version (microsoft/LLaVA-Med ad758b68).

Words are normalised as `words` says, those of open answers twice, which takes 64 dots.

*Open.* The number is the recall on counts, the paper's "open accuracy", and it is the credit here. A word that both
have counts as often as the response has it, one that the response lacks as often as the gold answer has it: "lung
lung" has two thirds of "lung mass". The reference calls no answer right but by a set of candidates; `correct` is a
recall of 1 here.

*Closed.* Right where "yes" or "no" occurs in the response, inside words too, and so does the gold answer. So "not" and
"normal" are right for "no", a response with both words is right for both, and a gold answer that is another word needs
a yes or no beside it. Where yes or no occurs without the gold answer the reference drops the question from its count;
here it is wrong. The copy in UCSC-VLAA/MedTrinity-25M asks only that the gold answer occurs, without normalisation.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, judge_each
from gmai_vl.evaluation.protocols.tokens import contained_yes_no
from gmai_vl.evaluation.protocols.words import words_of
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind


def _open(question: Question, response: str) -> Verdict:
    said = _twice(response)
    recall = _recall(said, _twice(question.reference))
    return Verdict(correct=recall == 1, unparsed=not said, choice=None, text=" ".join(said), credit=recall)


def _twice(text: str) -> list[str]:
    return words_of(" ".join(words_of(text)))


def _recall(said: Sequence[str], wanted: Sequence[str]) -> float:
    met = sum(word in wanted for word in said)
    missed = sum(count for word, count in Counter(wanted).items() if word not in said)
    return met / (met + missed) if met else 0.0


def _closed(question: Question, response: str) -> Verdict:
    text, gold = " ".join(words_of(response)), " ".join(words_of(question.reference))
    found = contained_yes_no(text)
    correct = bool(found) and gold in text
    choice = next(iter(found)) if len(found) == 1 else None
    return Verdict(correct=correct, unparsed=not found, choice=choice, text=text, credit=float(correct))


_RULES: dict[Kind, Rule] = {"closed": _closed, "open": _open}

LLAVA_MED = Protocol(
    name="llava-med",
    source="microsoft/LLaVA-Med ad758b68",
    kinds=tuple(_RULES),
    about="LLaVA-Med v1: open answers by recall of words; closed right where yes or no and the answer occur",
    judge=partial(judge_each, _RULES),
)
