"""Whether the answer is right, by the evaluation's own rules, read from the answer part alone.

Of the question "CT (A) or MRI (B)?", where B is right:

| answer part | reward |
|---|---|
| `B`, `b`, `(B)`, `**B.**`, `Ｂ。` | 1 |
| `MRI`, `mri.`, `B. MRI` | 1 |
| `A`, `CT`, `B. CT` | 0 |
| `A, B`, `A or B`, `A B`, `A MRI`, `B B B` | 0 |
| `The answer is B.`, `B, as the fat is bright`, `\\boxed{B}` | 0: more than the letter or the text |
| nothing, no answer part, two answer parts | 0 |

A thought of B before the answer A earns nothing, and one of A before the answer B costs nothing.
"""

import re
import unicodedata

from gmai_vl.evaluation import Question, judge
from gmai_vl.evaluation.answers.wording import words
from gmai_vl.reasoning.rewards.format import TAG, parts_of

LONGEST_ANSWER = 2000
"""Characters of an answer part that is read; a longer one is no answer, and long hostile ones are slow to read."""

_WORD = re.compile(r"[^\W_]+")


def accuracy_reward(question: Question, response: str) -> float:
    """Return 1 where the protocol `default` finds the answer part right, else 0; also where it reads no answer there.

    Multiple choice is answered by an option's letter, its text, or both, and nothing else. Raises UserError if there
    is an answer to read and the question's own is withheld.
    """
    parts = parts_of(response)
    if parts is None or len(parts[1]) > LONGEST_ANSWER:
        return 0.0
    answer = parts[1]
    if TAG.search(unicodedata.normalize("NFKC", answer)):  # full-width tags: the evaluation would read on inside them
        return 0.0
    if question.kind == "mcq" and not options_named(question, answer):
        return 0.0
    (judged,) = judge([question], {question.id: answer})
    return float(judged.correct)


def options_named(question: Question, text: str) -> set[str]:
    """Return the letters of the options that a text is, and nothing besides: letter, text, or letter and text."""
    said, marks = _bare(text), words(text)
    return {
        letter
        for letter, option in (question.options or {}).items()
        for form in (letter, option, f"{letter}. {option}", f"{letter} {option}")
        if said == _bare(form) and marks == words(form) != ""
    }


def _bare(text: str) -> list[str]:
    """Return letters and numbers alone: `words` keeps the signs that count, and takes the A of "A B" for an article."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
