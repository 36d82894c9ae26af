"""A benchmark as read from its official files, and which known form of the data that is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import BadItem, UserError, canonical_json, sha256_of_text

ImageOf = Callable[[str], NDArray[np.uint8]]
"""From the name of an image to its pixels, [H, W] or [H, W, 3]. Raises BadItem where the file is damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Questions with their images, and what is to be said about where they are from."""

    name: str

    variant: str
    """Which published form of the data it is, or `unknown (n)`; stands beside every score."""

    questions: tuple[Question, ...]
    image: ImageOf

    train: Callable[[], Sequence[Question]] | None = None
    """What gives the questions of the train side, where the same files hold them: for the majority baseline."""

    notes: tuple[str, ...] = ()
    """What the reader noticed, a line each: counts that differ, rows that could not be told apart."""

    @property
    def sha256(self) -> str:
        """A hash over everything that is asked and scored, but not over pixels."""
        rows = [
            [
                one.id,
                one.kind,
                one.language,
                one.stem,
                one.options,
                one.answer,
                one.alternatives,
                [Path(name).name for name in one.images],  # wherever the data lie
                [[turn.role, turn.text] for turn in one.turns],
            ]
            for one in self.questions
        ]
        return sha256_of_text(canonical_json(rows))


def readable(benchmark: Benchmark, place: Path) -> ImageOf:
    """Return what gives an image to ask about, and raises UserError where its file, seen from `place`, is damaged."""
    asking = {name: question.id for question in reversed(benchmark.questions) for name in question.images}

    def image(name: str) -> NDArray[np.uint8]:
        try:
            return benchmark.image(name)
        except BadItem as bad:
            raise UserError(
                f"{place / name}: image of question `{asking[name]}` cannot be read: {bad}; mend the file, or leave "
                "the question out"
            ) from None

    return image


def variant_of(name: str, counted: int, known: Mapping[int, str]) -> tuple[str, tuple[str, ...]]:
    """Return the variant of a benchmark with so many questions, and the note where no published form has as many."""
    if counted in known:
        return known[counted], ()
    published = ", ".join(f"{number:,} ({what})" for number, what in known.items())
    return f"unknown ({counted:,})", (f"{name}: has {counted:,} questions; the published forms have {published}",)
