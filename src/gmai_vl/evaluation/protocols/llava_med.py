"""`llava-med`: the word scores of LLaVA-Med's first version (read in UCSC-VLAA/MedTrinity-25M 79b1b030).

Words are normalised: lower case, no punctuation, contractions with their apostrophe, number words as digits, no
articles. The tables are taken as the common forms below.

*Open.* The number is the recall on counts: words in common over words of the reference, the paper's "open accuracy".
It is the credit here. `correct` is taken as a recall of 1.

*Closed.* Right where "yes" or "no" occurs in the response, inside words too, and so does the gold answer. So "not" and
"normal" are right for "no", a response with both words is right for both, and a gold answer that is another word needs
a yes or no beside it.
"""

import re
from functools import partial

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, judge_each
from gmai_vl.evaluation.protocols.tokens import contained_yes_no, overlap
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind

_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DENIED = ("are", "could", "did", "does", "do", "had", "has", "have", "is", "must", "should", "was", "were", "would")
_REPLACED = (
    {word: str(number) for number, word in enumerate(_NUMBERS)}
    | {"none": "0", "cant": "can't", "wont": "won't", "thats": "that's", "theres": "there's", "theyre": "they're"}
    | {f"{verb}nt": f"{verb}n't" for verb in _DENIED}
)
_PUNCTUATION = re.compile(r"[^\w\s'.]|(?<!\d)\.|\.(?!\d)|_")


def normalised(text: str) -> list[str]:
    """Return the words of an answer as they are compared."""
    words = [word.strip("'") for word in _PUNCTUATION.sub(" ", text.lower()).split()]
    return [_REPLACED.get(word, word) for word in words if word and word not in _ARTICLES]


def _open(question: Question, response: str) -> Verdict:
    said = normalised(response)
    recall = overlap(said, normalised(question.reference)).recall
    return Verdict(correct=recall == 1, unparsed=not said, choice=None, text=" ".join(said), credit=recall)


def _closed(question: Question, response: str) -> Verdict:
    text, gold = " ".join(normalised(response)), " ".join(normalised(question.reference))
    found = contained_yes_no(text)
    correct = bool(found) and gold in text
    choice = next(iter(found)) if len(found) == 1 else None
    return Verdict(correct=correct, unparsed=not found, choice=choice, text=text, credit=float(correct))


_RULES: dict[Kind, Rule] = {"closed": _closed, "open": _open}

LLAVA_MED = Protocol(
    name="llava-med",
    source="UCSC-VLAA/MedTrinity-25M 79b1b030, after LLaVA-Med v1",
    kinds=tuple(_RULES),
    about="LLaVA-Med v1: open answers by recall of words; closed right where yes or no and the answer occur",
    judge=partial(judge_each, _RULES),
)
