"""Intervals for proportions, differences and means: of independent answers, and of answers that come in patients.

Answers about one patient are alike, so n answers say less than n patients would. `clustered` divides n by the design
effect (the variance of the proportion as a ratio of patient totals, over the variance of as many independent
answers), never below 1, corrects it for the number of patients by Student's t, and gives that effective n to Wilson's
formula (Korn and Graubard 1998; Franco et al. 2019 recommend Wilson). Unlike a bootstrap or a Wald interval this
stays in 0-1, does not shrink to a point near 0 and 1, and widens where patients are few. Where all answers are right,
or all wrong, the data say nothing of likeness within patients, and every patient counts once.

Differences of two runs and means of credits have no such formula; their intervals are percentiles of a bootstrap that
draws whole patients. It does shrink to a point where all patients are alike, and is narrow below some 20 patients.
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


def effective_number(values: Sequence[float], patients: Sequence[Hashable]) -> float | None:
    """Return how many independent answers say as much of the mean as these; None where a single patient gave several.

    `values` are what the answers count: right or wrong, or the differences -1, 0 and 1 between two runs.
    """
    sizes, totals = _totals(values, patients)
    n, count = float(sizes.sum()), len(sizes)
    if n == 0:
        raise ValueError("no answers")
    if count == n:
        return n
    if count == 1:
        return None
    if min(values) == max(values):
        return float(count)
    mean = totals.sum() / n
    variance = count / (count - 1) * float(((totals - mean * sizes) ** 2).sum()) / n**2
    design_effect = max(1.0, variance / (float(np.var(values)) / (n - 1)))
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

    A single patient says nothing of patients: (-1, 1). Raises ValueError if the lengths differ or there are no answers.
    """
    if not len(right_a) == len(right_b) == len(patients) > 0:
        raise ValueError(f"{len(right_a)} and {len(right_b)} answers for {len(patients)} patients cannot be paired")
    sizes, hits_a = _totals(right_a, patients)
    _, hits_b = _totals(right_b, patients)
    gains = hits_a - hits_b
    interval = (-1.0, 1.0) if len(sizes) == 1 else _bootstrap(sizes, gains, seed, resamples)
    return Difference(float(gains.sum() / sizes.sum()), interval)


def bootstrap_mean(
    credits: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0, resamples: int = 5000
) -> Interval:
    """Return the interval of a bootstrap over clusters for the mean of `credits`, each 0-1: token F1, recall.

    A single cluster says nothing of clusters: (0, 1). For credits that are only 0 or 1 `clustered` is better. Raises
    ValueError if the lengths differ, there are no credits or one is not in 0-1.
    """
    if not len(credits) == len(clusters) > 0:
        raise ValueError(f"{len(credits)} credits for {len(clusters)} clusters have no mean")
    outside = [credit for credit in credits if not 0 <= credit <= 1]
    if outside:
        raise ValueError(f"a credit of {outside[0]} is not in 0-1")
    sizes, totals = _totals(credits, clusters)
    return (0.0, 1.0) if len(sizes) == 1 else _bootstrap(sizes, totals, seed, resamples)


def _bootstrap(sizes: NDArray[np.float64], totals: NDArray[np.float64], seed: int, resamples: int) -> Interval:
    """Return 95 % of the means of patients drawn with replacement.

    Half of the draws are made with the sign of all totals turned, so that runs that change places turn the interval.
    """
    half = (resamples + 1) // 2
    means = np.concatenate([_drawn(sizes, totals, seed, half), 0.0 - _drawn(sizes, -totals, seed, half)])
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _drawn(sizes: NDArray[np.float64], totals: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Return the mean of every draw. Patients of one size and total are drawn as one kind, in sorted order: 80,000
    patients cost no more than their few kinds, and the order in which they come changes nothing."""
    kinds, counts = np.unique(np.stack((sizes, totals), axis=1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    means = []
    at_once = max(1, 2**22 // len(kinds))  # draws of 32 MB
    for start in range(0, resamples, at_once):
        draws = rng.multinomial(counts.sum(), counts / counts.sum(), size=min(at_once, resamples - start))
        drawn = draws @ kinds
        means.append(drawn[:, 1] / drawn[:, 0])
    return np.concatenate(means)


def _totals(values: Sequence[float], patients: Sequence[Hashable]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return number and sum of the values of each patient, in the order in which the patients first appear."""
    order = {patient: index for index, patient in enumerate(dict.fromkeys(patients))}
    index = np.array([order[patient] for patient in patients], dtype=np.intp)
    weights = np.asarray(values, dtype=float)
    rising = np.argsort(weights)  # sums that do not depend on the order of the answers, to the last bit
    sizes = np.bincount(index).astype(float)
    return sizes, np.bincount(index[rising], weights=weights[rising]).astype(float)
