"""What a question is before any wording: its form, its right answer and its surely wrong ones."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from gmai_vl.records import Box
from gmai_vl.vocabulary import Term

CoreForm = Literal[
    "modality",
    "plane",
    "body-part",
    "kind",
    "region-kind",
    "presence",
    "side",
    "count",
    "size",
    "position",
    "grounding",
    "grade",
    "severity",
]

FurtherForm = Literal[
    "laterality",
    "relation",
    "contact",
    "largest",
    "closest",
    "tally",
    "among",
    "diameter",
    "area",
    "extent",
]

Form = Literal[CoreForm, FurtherForm]

FORMS: tuple[str, ...] = (
    "caption",
    "region-caption",
    *get_args(CoreForm),
    *get_args(FurtherForm),
    "dialogue",
    "given",
    "written",
)
"""All that a sample can be; given: what the source itself asks and answers, written: in the words of a model."""

T = TypeVar("T")

MOST_WRONG = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One question about a case."""

    form: Form

    right: tuple[Term, ...]
    """The answer. Several only for `kind` and `among`: all that is there, of which multiple choice offers the first."""

    wrong: tuple[Term, ...] = ()
    """Answers that are surely false; none where the question cannot be multiple choice."""

    subject: Term | None = None
    """The label asked about."""

    other: Term | None = None
    """The label that the subject is held against."""

    claim: Term | None = None
    """What a yes-no question about the subject supposes, where that is not its presence."""

    listed: tuple[Term, ...] = ()
    """Labels or grades that the question lists."""

    boxes: tuple[Box, ...] = ()
    """Boxes that the question or its answer speaks of, from left to right."""

    @property
    def is_closed(self) -> bool:
        """Whether the answer is yes or no."""
        return self.form == "presence" or self.claim is not None

    @property
    def terms(self) -> tuple[Term | None, ...]:
        """Every term that the question or an answer to it says."""
        return (*self.right, *self.wrong, *self.listed, self.subject, self.other, self.claim)


def some(terms: Sequence[Term], rng: random.Random, most: int = MOST_WRONG) -> tuple[Term, ...]:
    """Return up to `most` of the terms, in an order of chance."""
    return tuple(rng.sample(list(terms), min(most, len(terms))))


def one_of(candidates: Sequence[T], rng: random.Random) -> list[T]:
    """Return one of the candidates, or none where there is none."""
    return [rng.choice(candidates)] if candidates else []


def number(value: int) -> Term:
    """Return a number as an answer."""
    return Term(str(value), str(value))
