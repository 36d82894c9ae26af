"""The questions of every cell: which are asked, which are dropped, and why."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeVar

from gmai_vl.evaluation.construction.balance import Choice, fair, in_turns, roomy, with_letters, with_options
from gmai_vl.evaluation.construction.candidates import Candidate
from gmai_vl.evaluation.construction.subjects import Cell

ONE_LABEL = "its cell has one right label only"
TOO_FEW = "fewer surely wrong answers than its like"
GIVEN_AWAY = "none of its wrong options is right elsewhere in its cell"
TOO_MANY = "more of its label than of any other in its cell"
OVER_LIMIT = "over the limit of its cell"
ANSWERED_BLIND = "answered right without the image"


@dataclass(frozen=True, slots=True)
class Selection:
    """What was taken, and what was not."""

    choices: list[Choice]
    """By cell and id."""

    questions: Counter[str] = field(default_factory=Counter)
    """Why a question was left out -> number of questions."""

    cells: dict[Cell, str] = field(default_factory=dict)
    """Cell that had questions and has none left -> why."""


def select(candidates: Sequence[Candidate], per_cell: int | None, seed: int) -> Selection:
    """Return the questions to be asked, with options and letters: at most `per_cell` of a cell, its labels balanced."""
    choices: list[Choice] = []
    questions: Counter[str] = Counter()
    cells: dict[Cell, str] = {}
    for cell, members in _by_cell(candidates):
        names = (seed, cell.name)
        like = roomy(members)
        eligible = fair(like)
        if not eligible:
            cells[cell] = ONE_LABEL if _has_one_label(members) else GIVEN_AWAY
            questions[cells[cell]] += len(members)
            continue
        ordered = in_turns(eligible, *names)
        chosen = ordered[:per_cell]
        questions[TOO_FEW] += len(members) - len(like)
        questions[GIVEN_AWAY] += len(like) - len(eligible)
        questions[TOO_MANY] += len(eligible) - len(ordered)
        questions[OVER_LIMIT] += len(ordered) - len(chosen)
        choices += _sorted(with_letters(with_options(chosen, *names), *names))
    return Selection(choices, +questions, cells)


def without(selection: Selection, right: Set[str], seed: int) -> Selection:
    """Return the questions whose ids are not among `right`: what a model answered right without the image.

    Labels are balanced anew, and letters dealt anew; every question keeps its options.
    """
    kept: list[Choice] = []
    questions, cells = Counter(selection.questions), dict(selection.cells)
    for cell, members in _by_cell(selection.choices):
        unanswered = [choice for choice in members if choice.id not in right]
        questions[ANSWERED_BLIND] += len(members) - len(unanswered)
        ordered = in_turns(unanswered, seed, cell.name)
        if not ordered:
            cells[cell] = ONE_LABEL if unanswered else ANSWERED_BLIND
        questions[ONE_LABEL if cell in cells else TOO_MANY] += len(unanswered) - len(ordered)
        kept += _sorted(with_letters(ordered, seed, cell.name))
    return Selection(kept, +questions, cells)


def _has_one_label(members: Sequence[Candidate]) -> bool:
    return len({candidate.label.en for candidate in members}) == 1


def _sorted(choices: Iterable[Choice]) -> list[Choice]:
    return sorted(choices, key=lambda choice: choice.id)


T = TypeVar("T", Candidate, Choice)


def _by_cell(things: Iterable[T]) -> list[tuple[Cell, list[T]]]:
    cells: dict[Cell, list[T]] = defaultdict(list)
    for thing in things:
        cells[thing.cell].append(thing)
    return sorted(cells.items(), key=lambda entry: entry[0])
