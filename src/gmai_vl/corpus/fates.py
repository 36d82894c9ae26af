"""What becomes of every case of a build: which is the same as another, and on which side of the split each one comes.

Cases go by their number in the order of the parts: of many cases, no more is kept in memory than is needed.
"""

import json
import tempfile
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gmai_vl.corpus.looks import SIDE, alike_within
from gmai_vl.corpus.parts import PARTS, Part
from gmai_vl.corpus.recipe import DataRecipe
from gmai_vl.corpus.schema import Row, content_of
from gmai_vl.corpus.split import assign_sides
from gmai_vl.foundation import UserError, say
from gmai_vl.records import Split

_COLUMNS = ("case_id", "source", "image", "patient_id", "conversations")
_MANY_PICTURES = 50_000
"""Comparing so many pictures with each other takes minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fates:
    """What becomes of the cases of all parts."""

    sides: Sequence[Split | None]
    """Side of every case, in the order of the parts; None for one that is left out as a duplicate."""

    twin_of: dict[str, str]
    """Duplicate case -> the kept case that it is equal to, in words: same pixels or, of text alone, same words."""

    contents: Set[str]
    """Names of all images that are shown, and hashes of what is said without one."""

    near_duplicates: int
    """Pairs of kept cases whose pictures look the same."""

    tied: int
    """Patients and single pictures that such pairs hold on one side of the split together with others."""


def decide_fates(parts: Sequence[Part], corpus: Path, recipe: DataRecipe) -> Fates:
    """Read the cases of all parts and decide.

    Raises UserError if the split goes by image though patients are known, or if an export gives a patient two sides.
    """
    first_of: dict[str, int] = {}
    twins: list[tuple[int, int, str]] = []  # with what they have in common
    units: list[str | None] = []  # the patient, or the image where none is known; None for a twin
    sources: list[str] = []
    names: list[pa.Array] = []
    given: dict[str, Split] = {}
    for part in parts:
        table = part.read(corpus, "cases", _COLUMNS)
        names += table["case_id"].chunks
        for row in table.to_pylist():
            content = content_of(row)
            first = first_of.setdefault(content, len(units))
            is_twin = first != len(units)
            if is_twin:
                twins.append((len(units), first, "words" if row["image"] is None else "pixels"))
            unit = None if is_twin else _unit(row, content, recipe)
            units.append(unit)
            if unit is not None and (side := _given_side(row)) is not None and given.setdefault(unit, side) != side:
                raise UserError(f"source `{row['source']}`: {unit} is on two sides of the split, {given[unit]}, {side}")
            sources.append(part.source.name)

    pairs = _near_duplicates(parts, corpus, units) if recipe.near_duplicates == "tie" else []
    tied = _tied((str(units[one]), str(units[other])) for one, other in pairs)
    units = [None if unit is None else tied.get(unit, unit) for unit in units]
    units_by_source: dict[str, list[str]] = {}
    for unit, source in zip(units, sources, strict=True):
        if unit is not None:
            units_by_source.setdefault(source, []).append(unit)
    side_of = assign_sides(units_by_source, recipe.split.shares, recipe.seed, given)
    name_of = pa.chunked_array(names, pa.string())
    return Fates(
        sides=[None if unit is None else side_of[unit] for unit in units],
        twin_of={name_of[twin].as_py(): f"same {common} as {name_of[first].as_py()}" for twin, first, common in twins},
        contents=first_of.keys(),
        near_duplicates=len(pairs),
        tied=len(tied),
    )


def _unit(row: Row, content: str, recipe: DataRecipe) -> str:
    if row["patient_id"] is None:
        return f"image {content}"
    if recipe.split.by == "image":
        raise UserError(f"split.by: image, but source `{row['source']}` names patients; write `by: patient`")
    return f"patient {row['patient_id']}"


def _given_side(row: Row) -> Split | None:
    """Return the side that an export gives a case; the reader has seen to it that its rows agree."""
    if '"published"' not in row["conversations"]:
        return None
    told = [each.get("published") for each in json.loads(row["conversations"])]
    return next((each["split"] for each in told if each), None)


def _near_duplicates(parts: Sequence[Part], corpus: Path, units: Sequence[str | None]) -> list[tuple[int, int]]:
    """Return the pairs of kept cases whose pictures look the same. The looks lie in a file meanwhile, not in memory."""
    with tempfile.TemporaryFile(dir=corpus / PARTS) as file:
        shown, number = [], 0
        for part in parts:
            for look in part.read(corpus, "cases", ("look",))["look"].to_pylist():
                if look is not None and units[number] is not None:
                    file.write(look)
                    shown.append(number)
                number += 1
        file.flush()
        if not shown:
            return []
        if len(shown) >= _MANY_PICTURES:
            say(
                f"{len(shown)} pictures are compared with each other, which takes time by the square of their number; "
                "`near_duplicates: keep` in the recipe leaves it out"
            )
        looks = np.memmap(file, np.uint8, "r", shape=(len(shown), SIDE, SIDE))
        return [(shown[pair.one], shown[pair.other]) for pair in alike_within(looks)]


def _tied(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return unit -> the first by name of the units that it hangs together with, directly or through others."""
    above: dict[str, str] = {}

    def root(unit: str) -> str:
        while above.setdefault(unit, unit) != unit:
            unit = above[unit]
        return unit

    for one, other in pairs:
        first, second = sorted((root(one), root(other)))
        above[second] = first
    return {unit: root(unit) for unit in above}
