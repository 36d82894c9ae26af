"""How far raters agree: Krippendorff's alpha for ordinal scores, with any number of raters and missing scores.

After K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): alpha = 1 - observed / expected
disagreement. 1 is perfect agreement, 0 what chance gives, below 0 systematic disagreement.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from statistics import fmean


def ordinal_alpha(units: Collection[Sequence[int]]) -> float | None:
    """Return alpha; each of `units` holds the scores that one thing was given, in any order and number.

    Things with a single score say nothing and are left out. None where alpha is not defined: no thing has two scores,
    or all scores are the same, so that there is nothing that raters could have disagreed upon.
    """
    pairable = [scores for scores in units if len(scores) > 1]
    totals = Counter(score for scores in pairable for score in scores)
    number = totals.total()
    if len(totals) < 2:
        return None
    distance = _ordinal_distances(totals)
    # Every pair of scores of a unit of m weighs 1 / (m - 1), so that a unit counts as often as it has scores.
    observed = sum(
        2 * distance[one, other] / (len(scores) - 1)
        for scores in pairable
        for one, other in combinations(sorted(scores), 2)
    )
    expected = sum(
        2 * totals[one] * totals[other] * distance[one, other] for one, other in combinations(sorted(totals), 2)
    )
    return 1 - (number - 1) * observed / expected


def pairwise_alpha(one: Mapping[str, int], others: Collection[Mapping[str, int]]) -> float | None:
    """Return the mean alpha of rater `one` with each of `others` alone (thing -> score); None where none is defined."""
    alphas = [
        alpha
        for other in others
        if (alpha := ordinal_alpha([(one[name], other[name]) for name in one.keys() & other.keys()])) is not None
    ]
    return fmean(alphas) if alphas else None


def _ordinal_distances(totals: Mapping[int, int]) -> dict[tuple[int, int], float]:
    """Return the squared distance of two scores, lower first: how many scores lie between, the two counting half."""
    levels = sorted(totals)
    between = {
        (one, other): sum(totals[level] for level in levels if one <= level <= other)
        - (totals[one] + totals[other]) / 2
        for one, other in combinations(levels, 2)
    }
    return {pair: steps**2 for pair, steps in between.items()} | {(level, level): 0.0 for level in levels}
