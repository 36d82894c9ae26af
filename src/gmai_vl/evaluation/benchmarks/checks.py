"""What several readers check: letters of options, an answer that is one of them, ids that differ."""

from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from gmai_vl.evaluation.benchmarks.rows import Row
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError


def lettered(row: Row, texts: Sequence[str]) -> dict[str, str]:
    """Return the options by their letters, A for the first; equal texts stay apart.

    Raises UserError where there are fewer than two or more than letters.
    """
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise UserError(f"{row.place}: has {len(texts)} options; 2 to {len(ascii_uppercase)} are needed")
    return dict(zip(ascii_uppercase, texts, strict=False))


def letter_of(row: Row, column: str, options: Mapping[str, str]) -> str:
    """Return the letter of the right option. Raises UserError where the cell is none of the letters."""
    letter = row.text(column)
    if letter not in options:
        raise UserError(f"{row.place}: `{column}` is {letter[:60]!r}, which is none of {', '.join(options)}")
    return letter


def distinct(questions: Sequence[Question], place: object) -> tuple[Question, ...]:
    """Return the questions; raises UserError, beginning with `place`, where there is none or two have one id."""
    if not questions:
        raise UserError(f"{place}: holds no questions")
    id, count = Counter(question.id for question in questions).most_common(1)[0]
    if count > 1:
        raise UserError(f"{place}: {count} questions have the id {id}; each needs its own")
    return tuple(questions)
