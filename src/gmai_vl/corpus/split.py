"""Sides of the split: whole patients, shares held in every source, decided by seed and names alone."""

from collections import Counter
from collections.abc import Mapping, Sequence

from gmai_vl.foundation import stable_shuffle
from gmai_vl.records import Split

FEWEST_FOR_ALL_SIDES = 3
"""From this many patients on, every side with a share gets at least one patient of each source."""


def assign_sides(
    cases_by_source: Mapping[str, Sequence[str]],
    shares: Mapping[Split, float],
    seed: int,
    given: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """Return unit -> side. `cases_by_source`: source -> the unit (patient, or image where none is known) of every case.

    `given` are the sides of units that have one already, as those of an export do; they keep it.

    A unit that stands in several sources has one side in all of them. In each source the number of cases per side is
    as near to its share as whole units in a seeded order allow: every unit goes where most is missing. Sources with
    the fewest units choose first, as they have the least room.
    """
    sides: dict[str, Split] = dict(given or {})
    sizes_by_source = {source: Counter(units) for source, units in cases_by_source.items()}
    for source in sorted(sizes_by_source, key=lambda source: (len(sizes_by_source[source]), source)):
        sides |= _sides_of_source(sizes_by_source[source], shares, sides, ("split", seed, source))
    return sides


def _sides_of_source(
    sizes: Mapping[str, int], shares: Mapping[Split, float], taken: Mapping[str, Split], names: tuple[object, ...]
) -> dict[str, Split]:
    total = sum(sizes.values())
    missing = {side: share * total for side, share in shares.items() if share > 0}
    for unit in sizes.keys() & taken.keys():
        if taken[unit] in missing:
            missing[taken[unit]] -= sizes[unit]

    free = stable_shuffle(sorted(sizes.keys() - taken.keys()), *names)
    chosen: dict[str, Split] = {}
    for unit in free:
        side = max(missing, key=lambda side: missing[side])
        chosen[unit] = side
        missing[side] -= sizes[unit]

    if len(sizes) >= FEWEST_FOR_ALL_SIDES:
        _fill_empty_sides(chosen, sizes, taken, list(missing))
    return chosen


def _fill_empty_sides(
    chosen: dict[str, Split], sizes: Mapping[str, int], taken: Mapping[str, Split], sides: Sequence[Split]
) -> None:
    """Give each empty side the smallest unit of the side with the most units, if that one can spare it."""
    for side in sides:
        units_on = Counter(chosen[unit] if unit in chosen else taken[unit] for unit in sizes)
        if units_on[side]:
            continue
        movable = [unit for unit in chosen if units_on[chosen[unit]] > 1]
        if movable:
            unit = min(movable, key=lambda unit: (-units_on[chosen[unit]], sizes[unit], unit))
            chosen[unit] = side
