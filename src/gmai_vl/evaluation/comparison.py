"""Whether run A answers better than run B: both over the same questions, which come in clusters.

Only questions on which the runs disagree tell them apart. McNemar's exact test takes each such question for a coin
toss, which is true of one question per image and wrong of many: questions about one image, or one patient, are alike,
and the test then finds differences that are none. `clustered_test` tosses one coin per cluster instead.

`detectable_difference` says what the comparison could have found at all, so that "no difference shown" is not read as
"no difference".
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

import numpy as np
from scipy.stats import binom, binomtest

from gmai_vl.evaluation.statistics import Z95, Difference, effective_number, paired_difference

Z80 = 0.8416212335729143
"""80 % point of the normal distribution: the power that a detectable difference is detected with."""

FEWEST_CLUSTERS = 6
"""Five coins cannot come out rarer than 2 / 2**5 = 0.0625, so five clusters show nothing at 5 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two runs over the same questions."""

    n: int
    """Questions."""

    clusters: int
    """Patients or images that the questions are about."""

    both: int
    """Questions that both runs answer right."""

    only_a: int
    only_b: int
    neither: int

    difference: Difference
    """Share right of A minus share right of B; the interval is of a bootstrap over clusters."""

    p_mcnemar: float
    """Exact two-sided McNemar test, as papers print it. Too small where questions of a cluster are alike."""

    p_clustered: float
    """`clustered_test`: the p value to go by."""

    p_holm: float | None = None
    """Of a group: `p_clustered` after Holm's adjustment for the number of groups; None for the whole."""

    effective_n: float | None
    """Independent questions that say as much of the difference as these (see `effective_number`); None where all
    questions, but more than one, are about one cluster."""

    detectable: float | None
    """`detectable_difference` of a test at 5 % two-sided, 0-1; None where not even 1 would be detected."""

    groups: "Mapping[str, Comparison]" = field(default_factory=dict)
    """The same for the questions of each group, in the order of their names."""

    @property
    def share_a(self) -> float:
        """Share of the questions that A answers right."""
        return (self.both + self.only_a) / self.n

    @property
    def share_b(self) -> float:
        """Share of the questions that B answers right."""
        return (self.both + self.only_b) / self.n

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON data; `p_holm` stands in groups only."""
        return {
            "n": self.n,
            "n_clusters": self.clusters,
            "both": self.both,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "neither": self.neither,
            "share_a": self.share_a,
            "share_b": self.share_b,
            "difference": self.difference.value,
            "interval": list(self.difference.interval),
            "p_mcnemar": self.p_mcnemar,
            "p_clustered": self.p_clustered,
            **({} if self.p_holm is None else {"p_holm": self.p_holm}),
            "effective_n": self.effective_n,
            "detectable": self.detectable,
            **({"groups": {name: group.as_json() for name, group in self.groups.items()}} if self.groups else {}),
        }


def compare(
    right_a: Sequence[bool],
    right_b: Sequence[bool],
    clusters: Sequence[Hashable],
    groups: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> Comparison:
    """Return the comparison of two runs, whose answers to question i are right or not as `right_a[i]`, `right_b[i]`.

    `clusters` are the questions' patients or images, `groups` the values that figures are wanted by as well; a question
    of group None stands in no group. `seed` is the bootstrap's; the tests draw nothing. Raises ValueError if the
    lengths differ or there are no questions.
    """
    whole = _compare(right_a, right_b, clusters, seed)
    if groups is None:
        return whole
    if len(groups) != whole.n:
        raise ValueError(f"{len(groups)} groups for {whole.n} questions")
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        if group is not None:
            members[group].append(index)
    parts = {
        name: _compare(
            [right_a[index] for index in members[name]],
            [right_b[index] for index in members[name]],
            [clusters[index] for index in members[name]],
            seed,
        )
        for name in sorted(members)
    }
    adjusted = holm([part.p_clustered for part in parts.values()])
    return replace(
        whole, groups={name: replace(parts[name], p_holm=p) for name, p in zip(parts, adjusted, strict=True)}
    )


def _compare(right_a: Sequence[bool], right_b: Sequence[bool], clusters: Sequence[Hashable], seed: int) -> Comparison:
    difference = paired_difference(right_a, right_b, clusters, seed=seed)
    table = Counter((bool(a), bool(b)) for a, b in zip(right_a, right_b, strict=True))
    only_a, only_b = table[True, False], table[False, True]
    n, count = len(clusters), len(set(clusters))
    effective = effective_number([int(a) - int(b) for a, b in zip(right_a, right_b, strict=True)], clusters)
    enough = count >= FEWEST_CLUSTERS
    return Comparison(
        n=n,
        clusters=count,
        both=table[True, True],
        only_a=only_a,
        only_b=only_b,
        neither=table[False, False],
        difference=difference,
        p_mcnemar=mcnemar(only_a, only_b),
        p_clustered=clustered_test(right_a, right_b, clusters),
        effective_n=effective,
        detectable=detectable_difference(effective, (only_a + only_b) / n) if effective and enough else None,
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the p value of the exact two-sided McNemar test: `only_a` heads and `only_b` tails of a fair coin."""
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def clustered_test(right_a: Sequence[bool], right_b: Sequence[bool], clusters: Sequence[Hashable]) -> float:
    """Return the two-sided p value of the sign-flip permutation test over clusters.

    If it makes no difference which run is called A, then within each cluster the questions gained, right of A less
    right of B, might as well have come with the other sign. p is the share of all 2**clusters choices of signs whose
    total is at least as far from 0 as the one found (Gail et al. 1996, Statistics in Medicine 15:1069). With one
    question per cluster this is McNemar's exact test.

    Nothing is drawn: gains are whole numbers, so the k clusters of gain +-g add g * (2 heads - k) with heads binomial,
    and the total of all is the convolution of these few distributions.
    """
    gains: Counter[Hashable] = Counter()
    for a, b, cluster in zip(right_a, right_b, clusters, strict=True):
        gains[cluster] += int(a) - int(b)
    chances = np.ones(1)
    for gain, count in Counter(abs(gain) for gain in gains.values() if gain).items():
        of_heads = np.zeros(gain * count + 1)
        of_heads[::gain] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, of_heads)
    span = len(chances) - 1
    totals = 2 * np.arange(span + 1) - span
    return min(1.0, float(chances[np.abs(totals) >= abs(gains.total())].sum()))


def detectable_difference(effective_n: float, discordance: float) -> float | None:
    """Return the smallest true difference that a test at 5 % two-sided finds with 80 % power; None if there is none.

    Connor (1987, Biometrics 43:207): m pairs of which the share q disagrees detect the difference d where

        d * sqrt(m) = z(0.975) * sqrt(q) + z(0.8) * sqrt(q - d**2)

    m is the number of questions over the design effect of their differences, `effective_n`. A difference cannot exceed
    the discordance: where d comes out above the q observed, q is taken to be d, all disagreement in one direction.
    With d = x * sqrt(q) both cases are one quadratic equation in x. This is not the power to find the difference
    observed, which would say no more than its p value.
    """
    if effective_n < Z95**2:
        return None
    x = (Z95 * sqrt(effective_n) + Z80 * sqrt(effective_n + Z80**2 - Z95**2)) / (effective_n + Z80**2)
    return max(x * sqrt(discordance), x**2)


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number (Holm 1979, Scandinavian Journal of Statistics 6:65), in place."""
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted
