"""The last step of a build: parts become a corpus; duplicates are found, patients get their side, all is counted."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table as Grid

from gmai_vl import __version__
from gmai_vl.corpus.fingerprint import fingerprint
from gmai_vl.corpus.images import stored_images
from gmai_vl.corpus.looks import alike_within, stacked
from gmai_vl.corpus.parts import Part
from gmai_vl.corpus.recipe import DataRecipe, recipe_sha256
from gmai_vl.corpus.schema import CASES, LEDGER, Row, Table, content_of
from gmai_vl.corpus.split import assign_sides
from gmai_vl.corpus.tables import count, table_rows
from gmai_vl.foundation import UserError, atomic_file, say, visible, write_json, write_text
from gmai_vl.records import Split
from gmai_vl.writing import prompt_texts

ROWS_PER_FILE = 50_000
_ROWS_PER_GROUP = 5_000
_MOST_REASONS = 10
_MANY_PICTURES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fates:
    """What becomes of every case."""

    side_of: dict[str, Split]
    """Kept case -> side of the split."""

    twin_of: dict[str, str]
    """Duplicate case -> the kept case that it is equal to, in words: same pixels or, of text alone, same words."""

    near_duplicates: int
    """Pairs of kept cases whose pictures look the same."""

    tied: int
    """Patients and single pictures that such pairs hold on one side of the split together with others."""


def merge_parts(parts: Sequence[Part], recipe: DataRecipe, corpus: Path) -> dict[str, Any]:
    """Write the tables, the prompts and, last, the manifest; return the manifest.

    Does not look at the quarantine: `check_quarantine` comes before. Raises UserError if nothing is left to keep, or if
    the split goes by image though patients are known.
    """
    heads = list(_heads(parts, corpus))
    looks: dict[str, bytes] = {}
    if recipe.near_duplicates == "tie":
        rows = _rows_of(parts, corpus, "cases", ("case_id", "look"))
        looks = {row["case_id"]: row["look"] for row in rows if row["look"] is not None}
    fates = _fates(heads, looks, recipe)
    if not fates.side_of:
        raise UserError("no item of any source could be used; look at labels, paths and subsets")

    _write_cases(parts, fates, corpus)
    _write_samples(parts, fates, corpus)
    _write_ledger(parts, fates, corpus)
    _write_prompts(corpus)
    images = {head["image"] for head in heads}
    for path in stored_images(corpus):
        if path.stem not in images:  # left by an interrupted build of files that have changed since
            path.unlink()

    manifest = {
        "name": recipe.name,
        "recipe": recipe.model_dump(mode="json"),
        "recipe_sha256": recipe_sha256(recipe),
        "tool_version": __version__,
        "split_unit": _split_unit(heads, recipe),
        "near_duplicates": {"pairs": fates.near_duplicates, "units_tied": fates.tied},
        "counts": count(corpus),
        "fingerprint": fingerprint(table_rows(corpus, "samples"), table_rows(corpus, "ledger")),
        "use": "research use only, not for diagnosis",
    }
    write_json(corpus / "manifest.json", manifest)
    return manifest


def check_quarantine(parts: Sequence[Part], recipe: DataRecipe, corpus: Path) -> None:
    """Raise UserError, after a table of reasons on standard error, if more of a source is unusable than allowed."""
    items_of_reason: dict[str, dict[str, list[str]]] = {source.name: {} for source in recipe.sources}
    seen: Counter[str] = Counter()
    for row in _rows_of(parts, corpus, "ledger"):
        seen[row["source"]] += 1
        if row["outcome"] == "quarantined":
            reason = _without_names(row["reason"], row["item"])
            items_of_reason[row["source"]].setdefault(reason, []).append(row["item"])
    for source, items in items_of_reason.items():
        share = sum(map(len, items.values())) / max(seen[source], 1)
        if share <= recipe.max_quarantined:
            continue
        reasons = sorted(items, key=lambda reason: -len(items[reason]))
        grid = Grid("items", "reason", "for example", title=f"quarantine of {source}", title_justify="left")
        for reason in reasons[:_MOST_REASONS]:
            grid.add_row(str(len(items[reason])), visible(reason), visible(items[reason][0]))
        if len(reasons) > _MOST_REASONS:
            grid.add_row(str(sum(len(items[reason]) for reason in reasons[_MOST_REASONS:])), "other reasons", "")
        Console(stderr=True, markup=False).print(grid)
        raise UserError(
            f"source `{source}`: {share:.0%} of its items cannot be used, {recipe.max_quarantined:.0%} may be so; "
            f"most often: {reasons[0]}; mend the source, or raise `max_quarantined` if this is expected"
        )


def _without_names(reason: str, item: str) -> str:
    """Return a reason as it reads for any item, so that equal ones can be counted."""
    path = PurePosixPath(item.partition("@")[0])
    for name in (f"{item}: ", f"{path.name}: ", str(path), str(path.with_suffix("")), path.name, path.stem):
        reason = reason.removeprefix(name) if name.endswith(": ") else reason.replace(name, "*")
    return reason


def _rows_of(parts: Sequence[Part], corpus: Path, table: Table, columns: Sequence[str] | None = None) -> Iterator[Row]:
    for part in parts:
        yield from part.read(corpus, table, columns).to_pylist()


def _heads(parts: Sequence[Part], corpus: Path) -> Iterator[Row]:
    """Yield what decides about a case: with `content`, but without the conversations that it may be computed from."""
    columns = ("case_id", "source", "image", "patient_id")
    for row in _rows_of(parts, corpus, "cases", (*columns, "conversations")):
        yield {column: row[column] for column in columns} | {"content": content_of(row)}


def _fates(heads: Sequence[Row], looks: Mapping[str, bytes], recipe: DataRecipe) -> _Fates:
    first_of_content: dict[str, str] = {}
    twin_of: dict[str, str] = {}
    unit_of: dict[str, str] = {}
    for head in heads:
        case = head["case_id"]
        first = first_of_content.setdefault(head["content"], case)
        if first != case:
            twin_of[case] = f"same {'words' if head['image'] is None else 'pixels'} as {first}"
            continue
        unit_of[case] = _unit(head, recipe)
    pairs = _near_duplicates([case for case in unit_of if case in looks], looks)
    tied = _tied({(unit_of[one], unit_of[other]) for one, other in pairs})
    units: dict[str, list[str]] = {}
    for head in heads:
        if head["case_id"] in unit_of:
            unit = unit_of[head["case_id"]]
            units.setdefault(head["source"], []).append(tied.get(unit, unit))
    sides = assign_sides(units, recipe.split.shares, recipe.seed)
    return _Fates(
        side_of={case: sides[tied.get(unit, unit)] for case, unit in unit_of.items()},
        twin_of=twin_of,
        near_duplicates=len(pairs),
        tied=len(tied),
    )


def _near_duplicates(cases: Sequence[str], looks: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return the pairs of cases whose pictures look the same."""
    if not cases:
        return []
    if len(cases) > _MANY_PICTURES:
        say(
            f"{len(cases)} pictures are compared with each other, which takes time by the square of their number; "
            "`near_duplicates: keep` in the recipe leaves it out"
        )
    found = alike_within(stacked([looks[case] for case in cases]))
    return [(cases[pair.one], cases[pair.other]) for pair in found]


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


def _unit(head: Row, recipe: DataRecipe) -> str:
    if head["patient_id"] is None:
        return f"image {head['content']}"
    if recipe.split.by == "image":
        raise UserError(f"split.by: image, but source `{head['source']}` names patients; write `by: patient`")
    return f"patient {head['patient_id']}"


def _split_unit(heads: Sequence[Row], recipe: DataRecipe) -> str:
    """Name the smallest thing kept whole: image where any case has no patient, file where files are the patients."""
    from_files = {
        source.name for source in recipe.sources if source.format in ("volume", "video") and source.patient is None
    }
    if any(head["patient_id"] is None for head in heads):
        return "image"
    return "file" if any(head["source"] in from_files for head in heads) else "patient"


def _write_cases(parts: Sequence[Part], fates: _Fates, corpus: Path) -> None:
    with (
        atomic_file(corpus / "cases.parquet") as temporary,
        pq.ParquetWriter(temporary, CASES, compression="zstd") as file,
    ):
        for part in parts:
            file.write_table(_kept_with_sides(part.read(corpus, "cases"), fates))


def _write_samples(parts: Sequence[Part], fates: _Fates, corpus: Path) -> None:
    folder = corpus / "samples"
    shutil.rmtree(folder, ignore_errors=True)
    waiting: list[pa.Table] = []
    files = 0
    for part in parts:
        waiting.append(_kept_with_sides(part.read(corpus, "samples"), fates))
        if sum(table.num_rows for table in waiting) >= ROWS_PER_FILE or part is parts[-1]:
            with atomic_file(folder / f"{files:05d}.parquet") as temporary:
                rows = pa.concat_tables(waiting)
                pq.write_table(rows, temporary, row_group_size=_ROWS_PER_GROUP, compression="zstd")
            waiting, files = [], files + 1


def _write_ledger(parts: Sequence[Part], fates: _Fates, corpus: Path) -> None:
    with atomic_file(corpus / "ledger.parquet") as temporary, pq.ParquetWriter(temporary, LEDGER) as file:
        for part in parts:
            rows = part.read(corpus, "ledger").to_pylist()
            for row in rows:
                twin = fates.twin_of.get(f"{row['source']}/{row['item']}") if row["outcome"] == "kept" else None
                if twin is not None:
                    row |= {"outcome": "duplicate", "reason": twin}
            file.write_table(pa.Table.from_pylist(rows, schema=LEDGER))


def _write_prompts(corpus: Path) -> None:
    prompts = prompt_texts()
    lines = [json.dumps({"prompt_id": key, "text": prompts[key]}, ensure_ascii=False) for key in sorted(prompts)]
    write_text(corpus / "prompts.jsonl", "".join(f"{line}\n" for line in lines))


def _kept_with_sides(rows: pa.Table, fates: _Fates) -> pa.Table:
    sides = [fates.side_of.get(case) for case in rows["case_id"].to_pylist()]
    rows = rows.set_column(rows.schema.get_field_index("split"), "split", pa.array(sides, pa.string()))
    return rows.filter(pa.array([side is not None for side in sides], pa.bool_()))
