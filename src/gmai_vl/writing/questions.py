"""The questions that nearly every case allows: what it shows, where, how many and how severe."""

import random
from collections.abc import Iterator

from gmai_vl.foundation import stable_rng
from gmai_vl.records import Box
from gmai_vl.vocabulary import MODALITIES, Term, branch, overlap, siblings
from gmai_vl.writing.asks import MOST_WRONG, Ask, Form, number, one_of, some
from gmai_vl.writing.facts import (
    HALVES,
    NO,
    NO_FINDING,
    POSITIONS,
    SIZES,
    YES,
    CaseFacts,
    FindingFacts,
    is_normal,
)
from gmai_vl.writing.markup import share_box

MOST_BOXES = 3


def asks_of(facts: CaseFacts, *names: object) -> list[Ask]:
    """Return the questions that `facts` allow, from the general to the particular: one per form, two for presence.

    Chance depends on `names` and the form only.
    """
    makers = (
        _modality,
        _plane,
        _body_part,
        _kind,
        _presence,
        _count,
        _size,
        _position,
        _side,
        _region_kind,
        _grounding,
        _grade,
        _severity,
    )
    return [ask for make in makers for ask in make(facts, stable_rng(*names, make.__name__))]


def _modality(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    wrong = [other for other in MODALITIES if not overlap(other, facts.modality)]
    yield Ask(form="modality", right=(facts.modality,), wrong=some(wrong, rng))


def _plane(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    if facts.plane:
        wrong = [plane for plane in branch("view plane") if plane != facts.plane]
        yield Ask(form="plane", right=(facts.plane,), wrong=some(wrong, rng))


def _body_part(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    if facts.body_part:
        # What other images of the source show comes first: a part that is never right gives itself away as wrong.
        own, others = (
            [part for part in parts if not overlap(part, facts.body_part)]
            for parts in (facts.body_parts, [part for part in branch("body part") if part not in facts.body_parts])
        )
        wrong = some(own, rng)
        wrong += some(others, rng, MOST_WRONG - len(wrong))
        yield Ask(form="body-part", right=(facts.body_part,), wrong=wrong)


def _kind(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    """Ask what the image shows. Only labels that the annotator could have given are known to be absent."""
    if facts.negative and not facts.findings:
        yield Ask(form="kind", right=(NO_FINDING,), wrong=some(facts.absent, rng))
    elif facts.findings:
        # Findings before organs: they are what such a question is about.
        labels = sorted(rng.sample(facts.labels, len(facts.labels)), key=is_normal)
        # "No finding" is offered beside every finding, else its mere presence would give it away as right.
        none_would_fit = is_normal(labels[0]) or any(overlap(label, NO_FINDING) for label in labels)
        none = () if none_would_fit else (NO_FINDING,)
        yield Ask(form="kind", right=tuple(labels), wrong=none + some(facts.absent, rng, MOST_WRONG - len(none)))


def _presence(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    if facts.labels:
        yield Ask(form="presence", right=(YES,), subject=rng.choice(facts.labels))
    if facts.absent and (facts.findings or facts.negative):
        yield Ask(form="presence", right=(NO,), subject=rng.choice(facts.absent))


def _count(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    if facts.counted:
        # One of something is what most questions would be about; several say more.
        label = rng.choice([label for label in facts.counted if facts.count(label) > 1] or facts.counted)
        count = facts.count(label)
        # Near, but not so near that one cell at the rim decides.
        step = max(1, count // 5)
        first = max(count - step * rng.randint(0, MOST_WRONG), 1 + (count - 1) % step)
        numbers = [first + step * place for place in range(MOST_WRONG + 1)]
        wrong = tuple(number(value) for value in numbers if value != count)
        yield Ask(form="count", right=(number(count),), wrong=wrong, subject=label)


def _size(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    for finding in one_of([single for single in facts.singles() if single.size], rng):
        assert finding.size is not None
        yield _about(finding, "size", finding.size, tuple(size for size in SIZES if size != finding.size))


def _position(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    for finding in one_of([single for single in facts.singles() if single.position], rng):
        assert finding.position is not None
        doubtful = {finding.position, *finding.near}
        wrong = [cell for row in POSITIONS for cell in row if cell not in doubtful]
        # Mirror images first: they are as likely as the right cell before one has looked.
        mirrored = [cell for cell in wrong if cell in _mirror_images(finding.position)]
        others = [cell for cell in wrong if cell not in mirrored]
        chosen = some(mirrored, rng) + some(others, rng, MOST_WRONG - min(len(mirrored), MOST_WRONG))
        yield _about(finding, "position", finding.position, chosen)


def _mirror_images(cell: Term) -> set[Term]:
    """Return the cells that `cell` comes to lie in when the image is turned left to right, upside down, or both."""
    row, column = next((row, cells.index(cell)) for row, cells in enumerate(POSITIONS) if cell in cells)
    return {POSITIONS[y][x] for y in (row, 2 - row) for x in (column, 2 - column)} - {cell}


def _side(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    for finding in one_of([single for single in facts.singles() if single.side in HALVES], rng):
        right = HALVES[str(finding.side)]
        wrong = HALVES["left" if finding.side == "right" else "right"]
        if rng.random() < 0.5:
            yield _about(finding, "side", right, (wrong,))
        else:
            claim = rng.choice([right, wrong])
            yield _about(finding, "side", YES if claim == right else NO, (), claim)


def _region_kind(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    """Ask what a box holds. Siblings of its label are wrong for the box, even where they are elsewhere in the image."""
    for finding in one_of(tellable_regions(facts), rng):
        # Labels that this annotator gives first: a wrong answer that is never right elsewhere gives itself away.
        own, others = (
            [other for other in some if not any(overlap(other, label) for label in facts.labels)]
            for some in (facts.absent, [other for other in siblings(finding.label) if other not in facts.absent])
        )
        wrong = some(own, rng)
        wrong += some(others, rng, MOST_WRONG - len(wrong))
        assert finding.box is not None
        yield Ask(form="region-kind", right=(finding.label,), wrong=wrong, boxes=(finding.box,))


def _grounding(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    labels = [
        label
        for label in facts.labels
        if facts.count(label) <= MOST_BOXES
        and all(finding.box and _has_extent(finding.box, facts) for finding in facts.of(label))
    ]
    for label in one_of(labels, rng):
        boxes = tuple(sorted(finding.box for finding in facts.of(label) if finding.box))
        yield Ask(form="grounding", right=(), subject=label, boxes=boxes)


def _grade(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    if facts.grade:
        wrong = [grade for grade in facts.severity if not overlap(grade, facts.grade)]
        yield Ask(form="grade", right=(facts.grade,), wrong=some(wrong, rng), listed=facts.severity)


def _severity(facts: CaseFacts, rng: random.Random) -> Iterator[Ask]:
    """Ask whether the grade is above another one. A grade is as often above as below, where there are both."""
    if facts.grade:
        place = facts.severity.index(facts.grade)
        lower, higher = facts.severity[:place], facts.severity[place + 1 :]
        above = bool(lower) and (not higher or rng.random() < 0.5)
        claim = rng.choice(lower if above else higher)
        yield Ask(form="severity", right=(YES if above else NO,), claim=claim, listed=facts.severity)


def tellable_regions(facts: CaseFacts) -> list[FindingFacts]:
    """Return the findings whose box has an extent after rounding and is not also the box of another label."""
    return [
        finding
        for finding in facts.findings
        if finding.box
        and _has_extent(finding.box, facts)
        and all(
            other.label == finding.label or not other.box or not _alike(other.box, finding.box)
            for other in facts.findings
        )
    ]


def _alike(one: Box, other: Box) -> bool:
    """Say whether the boxes overlap by half of their union, so that a viewer could take one for the other."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return 2 * shared >= union


def _has_extent(box: Box, facts: CaseFacts) -> bool:
    x1, y1, x2, y2 = share_box(box, facts.width, facts.height)
    return x1 < x2 and y1 < y2


def _about(finding: FindingFacts, form: Form, right: Term, wrong: tuple[Term, ...], claim: Term | None = None) -> Ask:
    assert finding.box is not None
    return Ask(form=form, right=(right,), wrong=wrong, subject=finding.label, claim=claim, boxes=(finding.box,))
