"""From scores to verdicts: a source passes if the mean of its pairs is at most the pass mark."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from gmai_vl.corpus.review.agreement import ordinal_alpha, pairwise_alpha
from gmai_vl.corpus.review.rubric import AXES, Scores
from gmai_vl.corpus.review.scores import Rater, Review, by_pair

PASS_MARK = 3.0
"""Of the paper's survey: at most this mean, 1 being the best."""

_RESAMPLES = 5000

By = Literal["people", "judge"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What people, or judges, said of one source."""

    pairs: int
    """Pairs that were scored by at least one of them."""

    raters: int

    means: dict[str, float]
    """Axis -> mean over pairs of the mean over raters."""

    mean: float
    """Mean of the four axes."""

    interval: tuple[float, float] | None
    """95 % of the mean, by a bootstrap over pairs; None for a single pair."""

    agreement: dict[str, float | None]
    """Axis -> Krippendorff's alpha; None where it is not defined."""

    is_passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the review came to for one source."""

    verdict: Literal["pass", "fail", "none"]
    by: By | None
    """Who decided; None where nobody did."""

    why: str
    drawn: int
    """Pairs that were handed out."""

    people: Block | None
    judge: Block | None


def verdicts(
    review: Review, raters: Collection[Rater], sources: Collection[str], pass_mark: float
) -> dict[str, Verdict]:
    """Return source -> verdict, for every source of the corpus, reviewed or not.

    People decide where they gave any score to the source, judges elsewhere. A source with pairs that those who decide
    have not scored has the verdict none: the rest could be chosen.
    """
    people = [rater for rater in raters if not rater.is_judge]
    judges = [rater for rater in raters if rater.is_judge]
    found = {}
    for source in sorted({*sources, *review.source_of.values()}):
        drawn = [pair for pair, of in review.source_of.items() if of == source]
        blocks: dict[By, Block | None] = {
            "people": _block(drawn, people, pass_mark),
            "judge": _block(drawn, judges, pass_mark),
        }
        found[source] = _verdict(drawn, blocks, pass_mark)
    return found


def _verdict(drawn: Sequence[str], blocks: Mapping[By, Block | None], pass_mark: float) -> Verdict:
    by: By | None = "people" if blocks["people"] else "judge" if blocks["judge"] else None
    block = blocks[by] if by else None
    verdict: Literal["pass", "fail", "none"] = "none"
    if block is None:
        why = "nobody scored it" if drawn else "no pair of it was handed out"
    elif block.pairs < len(drawn):
        why = f"{by} scored {block.pairs} of {len(drawn)} pairs"
    else:
        verdict = "pass" if block.is_passed else "fail"
        why = f"mean {block.mean:.2f} of {by} is {'at most' if block.is_passed else 'above'} {pass_mark:g}"
    return Verdict(
        verdict=verdict,
        by=by if verdict != "none" else None,
        why=why,
        drawn=len(drawn),
        people=blocks["people"],
        judge=blocks["judge"],
    )


def _block(drawn: Sequence[str], raters: Sequence[Rater], pass_mark: float) -> Block | None:
    scored = by_pair(raters)
    given = [scored[pair] for pair in drawn if pair in scored]
    if not given:
        return None
    # Fractions: a mean of exactly the mark passes, whatever thirds and fifths it is made of.
    axes = {axis: [_mean([scores[axis] for scores in pair]) for pair in given] for axis in AXES}
    of_pairs = [_mean(values) for values in zip(*axes.values(), strict=True)]
    mean = _mean(of_pairs)
    return Block(
        pairs=len(given),
        raters=sum(not rater.scores.keys().isdisjoint(drawn) for rater in raters),
        means={axis: float(_mean(values)) for axis, values in axes.items()},
        mean=float(mean),
        interval=bootstrap([float(value) for value in of_pairs]),
        agreement={axis: ordinal_alpha([[scores[axis] for scores in pair] for pair in given]) for axis in AXES},
        is_passed=mean <= Fraction(str(pass_mark)),
    )


def _mean(values: Sequence[int | Fraction]) -> Fraction:
    return Fraction(sum(values)) / len(values)


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of `values`, drawn again with replacement; None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    low, high = np.percentile(draws @ np.asarray(values) / count, (2.5, 97.5))
    return float(low), float(high)


def agreement(raters: Collection[Rater]) -> dict[str, Any]:
    """Return how far people agree over all sources, and each judge with them.

    `people`: axis -> alpha. `judges`: judge -> axis -> `alpha` (mean over people of that judge's alpha with each) and
    `difference` (judge's score less the mean of people's, over the pairs that both have). None where not defined.
    """
    people = [rater for rater in raters if not rater.is_judge]
    scored = by_pair(people)
    return {
        "people": {
            axis: ordinal_alpha([[scores[axis] for scores in pair] for pair in scored.values()]) for axis in AXES
        },
        "judges": {
            rater.name: {axis: _against(rater, people, scored, axis) for axis in AXES}
            for rater in raters
            if rater.is_judge
        },
    }


def _against(
    judge: Rater, people: Sequence[Rater], scored: Mapping[str, list[Scores]], axis: str
) -> dict[str, float | None]:
    def column(rater: Rater) -> dict[str, int]:
        return {pair: scores[axis] for pair, scores in rater.scores.items()}

    both = sorted(judge.scores.keys() & scored.keys())
    differences = [judge.scores[pair][axis] - _mean([scores[axis] for scores in scored[pair]]) for pair in both]
    return {
        "alpha": pairwise_alpha(column(judge), [column(rater) for rater in people]),
        "difference": float(_mean(differences)) if differences else None,
    }


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return the form in which a corpus keeps a verdict."""
    return asdict(verdict)
