"""Intervals for proportions: of independent answers, and of answers that come in patients.

Answers about one patient are alike, so n answers say less than n patients would. `clustered` divides n by the design
effect (the variance of the proportion as a ratio of patient totals, over the variance of as many independent
answers), never below 1, corrects it for the number of patients by Student's t, and gives that effective n to Wilson's
formula (Korn and Graubard 1998; Franco et al. 2019 recommend Wilson). Unlike a bootstrap or a Wald interval this
stays in 0-1, does not shrink to a point near 0 and 1, and widens where patients are few. Where all answers are right,
or all wrong, the data say nothing of likeness within patients, and every patient counts once.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Interval = tuple[float, float]

Z95 = 1.959963984540054
"""97.5 % point of the normal distribution: all intervals are 95 %."""


def wilson(k: float, n: float) -> Interval:
    """Return Wilson's score interval for `k` of `n` independent trials. Raises ValueError unless 0 <= k <= n, n > 0."""
    if n <= 0 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no proportion")
    p = k / n
    scale = 1 + Z95**2 / n
    middle = (p + Z95**2 / (2 * n)) / scale
    half = Z95 / scale * sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return (0.0 if k == 0 else max(0.0, middle - half), 1.0 if k == n else min(1.0, middle + half))


def clustered(right: Sequence[bool], patients: Sequence[Hashable]) -> Interval:
    """Return the interval for the share of `right` answers, whose patients are `patients` (see the module).

    With one answer per patient it is Wilson's; several answers of a single patient say nothing of patients: (0, 1).
    Raises ValueError without answers.
    """
    k, n = int(sum(right)), len(right)
    effective = effective_number(right, patients)
    return (0.0, 1.0) if effective is None else wilson(k / n * effective, effective)


def effective_number(right: Sequence[bool], patients: Sequence[Hashable]) -> float | None:
    """Return how many independent answers say as much as these; None where a single patient gave several."""
    sizes, hits = _totals(right, patients)
    n, count = float(sizes.sum()), len(sizes)
    if n == 0:
        raise ValueError("no answers")
    if count == n:
        return n
    if count == 1:
        return None
    p = hits.sum() / n
    if p in (0.0, 1.0):
        return float(count)
    variance = count / (count - 1) * float(((hits - p * sizes) ** 2).sum()) / n**2
    design_effect = max(1.0, variance / (p * (1 - p) / (n - 1)))
    few_patients = (stdtrit(n - 1, 0.975) / stdtrit(count - 1, 0.975)) ** 2
    return float(n / design_effect * few_patients)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better A is than B on the same questions."""

    value: float
    """Share right of A minus share right of B, -1 to 1."""

    interval: Interval


def paired_difference(
    right_a: Sequence[bool],
    right_b: Sequence[bool],
    patients: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = 5000,
) -> Difference:
    """Return the difference of two shares over the same questions, with the interval of a bootstrap over patients.

    Raises ValueError if the lengths differ or there are no answers.
    """
    if not len(right_a) == len(right_b) == len(patients) > 0:
        raise ValueError(f"{len(right_a)} and {len(right_b)} answers for {len(patients)} patients cannot be paired")
    sizes, hits_a = _totals(right_a, patients)
    _, hits_b = _totals(right_b, patients)
    gains = hits_a - hits_b
    count = len(sizes)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    low, high = np.percentile((draws @ gains) / (draws @ sizes), (2.5, 97.5))
    return Difference(float(gains.sum() / sizes.sum()), (float(low), float(high)))


def _totals(right: Sequence[bool], patients: Sequence[Hashable]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return answers and right answers of each patient, in the order in which the patients first appear."""
    order = {patient: index for index, patient in enumerate(dict.fromkeys(patients))}
    index = [order[patient] for patient in patients]
    sizes = np.bincount(index).astype(float)
    hits = np.bincount(index, weights=np.asarray(right, dtype=float)).astype(float)
    return sizes, hits
