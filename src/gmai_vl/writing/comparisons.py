"""Questions that hold several findings against each other or measure one, where the annotation decides them clearly."""

import random
from collections.abc import Iterator, Sequence
from math import dist

from gmai_vl.foundation import stable_rng
from gmai_vl.vocabulary import Term, akin, overlap
from gmai_vl.writing.asks import MOST_WRONG, Ask, FurtherForm, number, one_of, some
from gmai_vl.writing.facts import NO, YES, CaseFacts, FindingFacts
from gmai_vl.writing.laterality import PATIENT_SIDES, own_side
from gmai_vl.writing.measures import Measures, area_term, length_term, value_of
from gmai_vl.writing.relations import BODY_DIRECTIONS, DIRECTIONS, SURELY_NOT, Pair

LARGER = 1.5
"""Times the area of any other that the largest of several covers."""

CLOSER = 0.6
"""Share of any other's distance at which the closest of several lies."""

STEP = 1.5
"""Times between a measurement and the nearest wrong one: no way of measuring takes one for the other."""

APART_ROUNDED = 1.3
"""The same after rounding."""

FEWEST_LISTED, MOST_LISTED = 3, 5
"""Labels that a question lists to be looked for."""


def further_asks_of(facts: CaseFacts, *names: object) -> list[Ask]:
    """Return the further questions that `facts` allow, at most one per form.

    Chance depends on `names` and the form only.
    """
    makers = (
        _laterality,
        _relation,
        _contact,
        _largest,
        _closest,
        _tally,
        _among,
        _diameter,
        _area,
        _extent,
    )
    return [ask for make in makers for ask in make(facts, stable_rng(*names, make.__name__))]


def _laterality(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    for finding in one_of([single for single in facts.singles() if single.laterality in PATIENT_SIDES], rng):
        assert finding.laterality is not None and finding.box is not None
        right = PATIENT_SIDES[finding.laterality]
        wrong = PATIENT_SIDES["left" if finding.laterality == "right" else "right"]
        claim = rng.choice([None, None, right, wrong])
        yield Ask(
            form="laterality",
            right=(right,) if claim is None else (YES if claim == right else NO,),
            wrong=(wrong,) if claim is None else (),
            subject=finding.label,
            claim=claim,
            boxes=(finding.box,),
        )


def _relation(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    """Ask for a direction: of the image, or where the plane tells one and by chance, of the body."""
    for pair in one_of([pair for pair in facts.pairs if pair.direction and not _tells_itself(pair)], rng):
        assert pair.direction is not None
        in_body = BODY_DIRECTIONS[facts.plane.en] if facts.plane and rng.random() < 0.5 else {}
        right, *wrong = (
            in_body.get(direction, direction) for direction in sorted(DIRECTIONS, key=lambda d: d != pair.direction)
        )
        yield _of_pair("relation", pair, right, tuple(wrong))


def _contact(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    for pair in one_of([pair for pair in facts.pairs if pair.contact], rng):
        assert pair.contact is not None
        yield _of_pair("contact", pair, pair.contact, some(SURELY_NOT[pair.contact], rng))


def _largest(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    """Ask which of the things shown covers most; only masks tell what a thing covers."""
    if not all(finding.masked and finding.area_share for finding in facts.findings):
        return
    areas = {label: sum(finding.area_share or 0.0 for finding in facts.of(label)) for label in facts.labels}
    for label in areas:
        smaller = [other for other in areas if areas[other] * LARGER <= areas[label] and not akin(other, label)]
        if smaller and len(smaller) == len(areas) - 1:
            yield _of_several("largest", label, smaller, rng)


def _closest(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    """Ask which of the others lies closest to one thing, from centre to centre."""
    placed = [single for single in facts.singles() if single.one_piece]
    candidates = []
    for finding in placed:
        others = {
            other.label: dist(_centre(finding), _centre(other))
            for other in placed
            if not akin(other.label, finding.label)
        }
        nearest = min(others, key=lambda label: others[label], default=None)
        if nearest is None:
            continue
        farther = [
            other
            for other in others
            if others[nearest] < CLOSER * others[other] and other != nearest and not akin(other, nearest)
        ]
        if farther and len(farther) == len(others) - 1:
            candidates.append((finding.label, nearest, farther))
    for subject, nearest, farther in one_of(candidates, rng):
        yield _of_several("closest", nearest, farther, rng, subject)


def _tally(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    """Ask how many of the listed labels are there: none, some or all, so that no number is surely wrong."""
    listed = _listed(facts, rng, fewest_there=0)
    if listed:
        count = sum(label in facts.labels for label in listed)
        wrong = [number(value) for value in range(len(listed) + 1) if value != count]
        yield Ask(form="tally", right=(number(count),), wrong=some(wrong, rng), listed=listed)


def _among(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    """Ask for all of the listed labels that are there; the answer names them in the order of the list."""
    listed = _listed(facts, rng, fewest_there=1)
    if listed:
        yield Ask(form="among", right=tuple(label for label in listed if label in facts.labels), listed=listed)


def _diameter(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    for finding, measures in one_of(_measured(facts), rng):
        longest = measures.diameter_mm
        wrong = _apart(measures.diameter, [length_term(longest * step, measures.tenths) for step in _steps(rng)])
        yield _of_measure("diameter", finding, measures.diameter, wrong)


def _area(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    for finding, measures in one_of(_measured(facts), rng):
        wrong = _apart(measures.area, [area_term(measures.area_mm2 * step) for step in _steps(rng)])
        yield _of_measure("area", finding, measures.area, wrong)


def _extent(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    for finding, measures in one_of(_measured(facts), rng):
        extent = Term(f"{measures.width} x {measures.height} mm", f"{measures.width}×{measures.height}毫米")
        yield _of_measure("extent", finding, extent, ())


def _measured(facts: CaseFacts) -> list[tuple[FindingFacts, Measures]]:
    return [(single, single.measures) for single in facts.singles() if single.measures]


def _steps(rng: random.Random) -> list[float]:
    """Return factors for three wrong values: the right one comes to stand anywhere among the four, by size."""
    place = rng.randint(0, MOST_WRONG)
    return [STEP ** (step - place) for step in range(MOST_WRONG + 1) if step != place]


def _apart(right: Term, terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the wrong measurements that are still apart from the right one, and from nothing, once rounded."""
    value = value_of(right)
    return tuple(
        term
        for term in dict.fromkeys(terms)
        if value_of(term) > 0 and max(value_of(term) / value, value / value_of(term)) >= APART_ROUNDED
    )


def _listed(facts: CaseFacts, rng: random.Random, fewest_there: int) -> tuple[Term, ...]:
    """Return labels to be looked for, none of them a kind or part of another; none where there are too few.

    As many of them are there as chance says.
    """
    if not (facts.findings or facts.negative):
        return ()  # nothing was looked for
    there = _unlike(some(facts.labels, rng, len(facts.labels)), ())
    absent = _unlike(some(facts.absent, rng, len(facts.absent)), there)
    size = rng.randint(FEWEST_LISTED, MOST_LISTED)
    size = min(size, len(there) + len(absent))
    counts = range(max(fewest_there, size - len(absent)), min(size, len(there)) + 1)
    if size < FEWEST_LISTED or not counts:
        return ()
    count = rng.choice(counts)
    listed = [*there[:count], *absent[: size - count]]
    rng.shuffle(listed)
    return tuple(listed)


def _unlike(labels: Sequence[Term], beside: tuple[Term, ...]) -> tuple[Term, ...]:
    chosen: tuple[Term, ...] = ()
    for label in labels:
        if not any(overlap(label, other) for other in (*beside, *chosen)):
            chosen = (*chosen, label)
    return chosen


def _tells_itself(pair: Pair) -> bool:
    """Say whether the names give the direction away: the left kidney beside the right, an anterior part of a thing."""
    told = {"anterior", "posterior", "superior", "inferior", "upper", "lower", "middle"}
    return any(own_side(label) or told & set(label.en.lower().split()) for label in (pair.subject, pair.other))


def _centre(finding: FindingFacts) -> tuple[float, float]:
    assert finding.box is not None
    x1, y1, x2, y2 = finding.box
    return (x1 + x2) / 2, (y1 + y2) / 2


def _of_pair(form: FurtherForm, pair: Pair, right: Term, wrong: tuple[Term, ...]) -> Ask:
    return Ask(form=form, right=(right,), wrong=wrong, subject=pair.subject, other=pair.other)


def _of_several(
    form: FurtherForm, right: Term, others: Sequence[Term], rng: random.Random, subject: Term | None = None
) -> Ask:
    """Return a question that lists what it asks among, so that it can be asked without options too."""
    wrong = some(others, rng)
    listed = [right, *wrong]
    rng.shuffle(listed)
    return Ask(form=form, right=(right,), wrong=wrong, subject=subject, listed=tuple(listed))


def _of_measure(form: FurtherForm, finding: FindingFacts, right: Term, wrong: tuple[Term, ...]) -> Ask:
    assert finding.box is not None
    return Ask(form=form, right=(right,), wrong=wrong, subject=finding.label, boxes=(finding.box,))
