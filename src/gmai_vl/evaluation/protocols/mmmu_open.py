"""MMMU's rule for open answers (MMMU-Benchmark/MMMU bb0b95a9): an answer is right where it occurs in a conclusion.

The response loses the dots at its ends, is lower-cased and split into sentences, which are its lines: the other end of
a sentence, ". " before a capital, never occurs in lower case. Of each the shortest tail behind a cue is kept ("=" is a
cue in the last one only), or the whole response where none has a tail, and so are all numbers in what is kept. Numbers
lose their commas and are rounded to two decimals, a text of one character becomes two, with a blank before and with
one behind. An answer is right where the text of a gold answer is part of a kept text, or its number equals a kept one.

So "not pneumonia" is right for pneumonia, "50%" for 50, 0.333 for 0.33 and "because of the blood flow" for "B", while
"two" is wrong for 2.

A cue is its letters and a blank, so that "this " holds "is ". An empty tail counts as the shortest, and the next cue
then begins anew. A tail that is one of the marks `_TRIVIAL` is none.

Numbers are looked for in three ways, each on its own: with thousands commas, with an exponent, and plain. A plain one
must not go on into a letter unless it has decimals, and no comma may follow it. So "50mg" holds no number and "3, 4"
only 4, "2.5, " holds 2, "1,234.5" both 1234 and 234.5, and "5e-2" both 0.05 and -2.
"""

import re

from gmai_vl.evaluation.protocols.protocol import Verdict
from gmai_vl.evaluation.question import Question

_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_CUES_OF_LAST = (*_CUES, "=")
_TRIVIAL = frozenset(":,.!?;'")
_NUMBERS = (
    re.compile(r"-?(?<!\w)\d{1,3}(?:,\d{3})+(?!\w)"),
    re.compile(r"-?\d+(?:\.\d+)?e[+-]?\d+"),
    re.compile(r"-?(?:\d*\.\d+|\d+(?!\w))(?!e[+-]?\d|[\d,])"),
)


def judge_open(question: Question, response: str) -> Verdict:
    """Judge an open answer; every alternative answer is a gold answer as well."""
    kept = conclusions_of(response)
    said = [form for text in kept for part in (text, *_numbers(text)) for form in _forms(part)]
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
    return [tail for tail in tails if tail and tail not in _TRIVIAL] or [whole]


def _shortest_tail(sentence: str, cues: tuple[str, ...]) -> str:
    shortest = ""
    for cue in cues:
        _, found, tail = sentence.rpartition(cue)
        tail = tail.strip()
        if found and (not shortest or len(tail) < len(shortest)):
            shortest = tail
    return shortest


def _numbers(text: str) -> list[str]:
    return [number for pattern in _NUMBERS for number in pattern.findall(text)]


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
