"""MMMU's rule for open answers (MMMU-Benchmark/MMMU bb0b95a9): an answer is right where it occurs in a conclusion.

The response is lower-cased and split into sentences. Of each the shortest tail behind a cue is kept ("=" is a cue in
the last sentence only), or the whole response where none has a cue, and so are all numbers in what is kept. Numbers
lose their commas and are rounded to two decimals, a text of one character becomes two, with a blank before and with
one behind. An answer is right where the text of a gold answer is part of a kept text, or its number equals a kept one.

So "not pneumonia" is right for pneumonia, "50%" for 50, 0.333 for 0.33 and "because of the blood flow" for "B", while
"two" is wrong for 2.

The sentences are taken as the lines, for ". " before a capital never occurs in lower case. A cue is taken as its
letters and a blank, so that "this " holds "is ". Dots at the end of the response are taken off; a tail without letter
or digit is taken as none. A number is taken as one with thousands commas, an exponent or neither, with an optional
minus.
"""

import re

from gmai_vl.evaluation.protocols.protocol import Verdict
from gmai_vl.evaluation.question import Question

_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_CUES_OF_LAST = (*_CUES, "=")
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?)")


def judge_open(question: Question, response: str) -> Verdict:
    """Judge an open answer; every alternative answer is a gold answer as well."""
    kept = conclusions_of(response)
    said = [form for text in kept for part in (text, *_NUMBER.findall(text)) for form in _forms(part)]
    gold = [form for answer in (question.reference, *question.alternatives) for form in _forms(answer)]
    correct = any(_meets(one, other) for one in gold for other in said)
    return Verdict(
        correct=correct,
        unparsed=not response.strip(),
        choice=None,
        text="; ".join(kept),
        credit=float(correct),
    )


def conclusions_of(response: str) -> list[str]:
    """Return the shortest tail behind a cue of each sentence; the whole response where no sentence has one."""
    whole = response.strip().strip(".").lower()
    sentences = whole.split("\n")
    tails = [_shortest_tail(sentence, _CUES) for sentence in sentences[:-1]]
    tails.append(_shortest_tail(sentences[-1], _CUES_OF_LAST))
    return [tail for tail in tails if re.search(r"\w", tail)] or [whole]


def _shortest_tail(sentence: str, cues: tuple[str, ...]) -> str:
    tails = [sentence.rpartition(cue)[2].strip() for cue in cues if cue in sentence]
    return min(filter(None, tails), key=len, default="")


def _forms(text: str) -> list[str | float]:
    """Return a number, a lower-cased text, or the two forms of a text of one character."""
    text = text.strip().lower()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _meets(gold: str | float, said: str | float) -> bool:
    if isinstance(gold, str):
        return isinstance(said, str) and gold in said
    return gold == said
