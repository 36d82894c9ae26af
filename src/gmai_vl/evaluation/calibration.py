"""Calibration: whether a model that gives its option 80 % is right 8 times out of 10.

For questions whose options each have a probability. The answer given is the most likely option (the first of them
where several are), and the confidence is its probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Questions of about one confidence: a row of the reliability table."""

    n: int

    confidence: float
    """Mean confidence, 0-1."""

    right: float
    """Share whose most likely option is right, 0-1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How well probabilities of options fit the answers."""

    n: int

    expected_error: float
    """Expected calibration error, 0-1: the mean over questions of |confidence - right| of their bin (Naeini et al.
    2015), with bins of equal mass (Nguyen and O'Connor 2015). Above 0 by chance even for a calibrated model, the more
    so the fewer the questions."""

    brier: float
    """Brier's score (1950), 0-2: the mean over questions of the squared distance between the probabilities and the
    answer as 0 and 1, summed over the options. k options of equal probability score 1 - 1/k."""

    bins: tuple[Bin, ...]
    """From the least confident to the most."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "n": self.n,
            "expected_calibration_error": self.expected_error,
            "brier": self.brier,
            "bins": [{"n": row.n, "confidence": row.confidence, "right": row.right} for row in self.bins],
        }


def calibration(chances: Sequence[Sequence[float]], answers: Sequence[int], *, bins: int = 10) -> Calibration:
    """Return the calibration of `chances`, the probability of each option of each question, for the right `answers`.

    `answers` count options from 0. Questions may differ in their number of options. Raises ValueError, naming the
    question, if probabilities are not in 0-1 or do not add up to 1, an answer is none of the options, the lengths
    differ or there are no questions.
    """
    if not len(chances) == len(answers) > 0:
        raise ValueError(f"{len(answers)} answers for the options of {len(chances)} questions")
    if bins < 1:
        raise ValueError(f"{bins} bins; give 1 or more")
    for index, (options, answer) in enumerate(zip(chances, answers, strict=True)):
        _check(index, options, answer)
    confidence = np.array([max(options) for options in chances])
    guesses = [list(options).index(max(options)) for options in chances]
    right = np.array(guesses) == np.array(answers)
    rows = _equal_mass(confidence, right, bins)
    return Calibration(
        n=len(chances),
        expected_error=sum(row.n * abs(row.confidence - row.right) for row in rows) / len(chances),
        brier=sum(_squared_distance(*pair) for pair in zip(chances, answers, strict=True)) / len(chances),
        bins=tuple(rows),
    )


def _check(index: int, options: Sequence[float], answer: int) -> None:
    if not all(0 <= chance <= 1 for chance in options):
        raise ValueError(f"question {index}: probabilities {list(options)} are not all in 0-1")
    # 1e-3: room for a dozen options written with four digits
    if not isclose(sum(options), 1, abs_tol=1e-3):
        raise ValueError(f"question {index}: probabilities add up to {sum(options):.6g}; divide them by their sum")
    if not 0 <= answer < len(options):
        raise ValueError(f"question {index}: answer {answer} is none of {len(options)} options, which count from 0")


def _squared_distance(options: Sequence[float], answer: int) -> float:
    return sum((chance - (option == answer)) ** 2 for option, chance in enumerate(options))


def _equal_mass(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> list[Bin]:
    """Split at the quantiles. Questions of one confidence stay together, so that their order does not matter; bins
    then differ in size, and there may be fewer."""
    less_confident = np.searchsorted(np.sort(confidence), confidence)
    of_bin = bins * less_confident // len(confidence)
    return [
        Bin(
            n=int((of_bin == number).sum()),
            confidence=float(confidence[of_bin == number].mean()),
            right=float(right[of_bin == number].mean()),
        )
        for number in np.unique(of_bin)
    ]
