"""Which questions are taken and which options they get: equal shares for labels, turns for patients, even letters."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from gmai_vl.corpus.schema import letters
from gmai_vl.evaluation.construction.candidates import Candidate
from gmai_vl.evaluation.construction.distractors import distinct
from gmai_vl.evaluation.construction.subjects import Cell
from gmai_vl.foundation import stable_fraction, stable_rng
from gmai_vl.vocabulary import Term

MOST_OPTIONS = 5
"""Columns A to E of GMAI-MMBench."""

ENOUGH = 0.9
"""Share of a source's questions in a cell that must have so many options, for all to get as many."""


class Takeable(Protocol):
    """What the right label and the patient are told of."""

    @property
    def id(self) -> str:
        """Its name, that chance depends on."""

    @property
    def label(self) -> Term:
        """The right answer."""

    @property
    def patient(self) -> str:
        """Whose image it is."""


T = TypeVar("T", bound=Takeable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A question with its options."""

    candidate: Candidate
    wrong: tuple[Term, ...]
    """One to four, in the order in which they are shown."""

    answer: str
    """Letter of the right option."""

    @property
    def id(self) -> str:
        """Of the candidate."""
        return self.candidate.id

    @property
    def cell(self) -> Cell:
        """Where it stands in the table."""
        return self.candidate.cell

    @property
    def label(self) -> Term:
        """The right answer."""
        return self.candidate.label

    @property
    def patient(self) -> str:
        """Hash of the patient."""
        return self.candidate.patient

    @property
    def options(self) -> dict[str, Term]:
        """Letter -> label."""
        shown = list(self.wrong)
        shown.insert(ord(self.answer) - ord("A"), self.label)
        return dict(zip(letters(len(shown)), shown, strict=True))


def room_of(candidate: Candidate) -> int:
    """Return how many options a question could have, 2 to 5."""
    return 1 + len(_first(candidate.wrong, MOST_OPTIONS - 1, candidate))


def roomy(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those of one cell that can have as many options as nearly all of their source there.

    The questions of a source then get equally many, so that their number tells nothing and letters can be dealt evenly.
    """
    rooms: dict[str, list[int]] = defaultdict(list)
    for candidate in candidates:
        rooms[candidate.source].append(room_of(candidate))
    numbers = {
        source: max(
            number
            for number in range(2, MOST_OPTIONS + 1)
            if sum(room >= number for room in known) >= ENOUGH * len(known)
        )
        for source, known in rooms.items()
    }
    return [candidate for candidate in candidates if room_of(candidate) >= numbers[candidate.source]]


def fair(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those that have a wrong label that is the right one of another; none where there are not two labels.

    An option that is never right tells by itself that the other one is.
    """
    kept = list(candidates)
    while True:
        right = {candidate.label.en for candidate in kept}
        fairer = [candidate for candidate in kept if any(label.en in right for label in candidate.wrong)]
        if len(fairer) == len(kept):
            return kept
        kept = fairer


def in_turns(things: Iterable[T], *names: object) -> list[T]:
    """Return the things in an order in which every beginning has each label as often as any other, as far as it goes.

    Each round takes one thing of every label, of the patient of whom fewest were taken; ties and the order of labels
    are drawn by `names`. The last round is the last in which two labels still have something, and what is left of the
    most frequent label then is left out: no label is right more often than all others.
    """
    waiting: dict[str, list[tuple[int, float, str, T]]] = defaultdict(list)
    for thing in things:
        waiting[thing.label.en].append((0, stable_fraction(*names, thing.id), thing.id, thing))
    for entries in waiting.values():
        heapq.heapify(entries)
    order = sorted(waiting, key=lambda label: stable_fraction(*names, label))
    times: Counter[str] = Counter()
    taken: list[T] = []
    while len(left := [label for label in order if waiting[label]]) > 1:
        for label in left:
            thing = _next(waiting[label], times)
            times[thing.patient] += 1
            taken.append(thing)
    return taken


def _next(entries: list[tuple[int, float, str, T]], times: Counter[str]) -> T:
    """Take the entry whose patient was taken least often; numbers in the heap are of earlier and only grow."""
    while True:
        known, fraction, id, thing = heapq.heappop(entries)
        if known == times[thing.patient]:
            return thing
        heapq.heappush(entries, (times[thing.patient], fraction, id, thing))


def with_options(chosen: Sequence[Candidate], *names: object) -> list[Choice]:
    """Return the candidates of one cell with their options, as many for all of one source; letters are still A.

    Labels that are right elsewhere in the cell come first, and of those the ones offered least often so far. Two
    options never share a name.
    """
    right = {candidate.label.en for candidate in chosen}
    numbers: dict[str, int] = {}
    for candidate in chosen:
        numbers[candidate.source] = min(room_of(candidate), numbers.get(candidate.source, MOST_OPTIONS))
    offered: Counter[str] = Counter()
    choices = []
    for candidate in chosen:
        rng = stable_rng(*names, "options", candidate.id)
        by_need = sorted((label.en not in right, offered[label.en], rng.random(), label) for label in candidate.wrong)
        wrong = _first((label for *_, label in by_need), numbers[candidate.source] - 1, candidate)
        offered.update(label.en for label in wrong)
        rng.shuffle(wrong)
        choices.append(Choice(candidate=candidate, wrong=tuple(wrong), answer="A"))
    return choices


def _first(labels: Iterable[Term], number: int, candidate: Candidate) -> list[Term]:
    """Return the first so many labels that share no name with each other or with the right one."""
    return list(islice(distinct(labels, known=[candidate.label]), number))


def with_letters(choices: Sequence[Choice], *names: object) -> list[Choice]:
    """Return the choices of one cell with the right letters dealt: each as often as any other, to within one.

    Where sources differ in the number of options, that holds among the questions with equally many: their number is
    seen, and must not hint at the letter.
    """
    by_number: Counter[tuple[int, str]] = Counter()
    in_all: Counter[str] = Counter()
    dealt = []
    for choice in choices:
        number = len(choice.wrong) + 1
        answer = min(
            letters(number),
            key=lambda letter: (
                by_number[number, letter],
                in_all[letter],
                stable_fraction(*names, "letter", choice.id, letter),
            ),
        )
        by_number[number, answer] += 1
        in_all[answer] += 1
        dealt.append(Choice(candidate=choice.candidate, wrong=choice.wrong, answer=answer))
    return dealt
