"""The last step of a build: parts become a corpus without duplicates, with sides of the split, counted."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table as Grid

from gmai_vl import __version__
from gmai_vl.corpus.drafts import draft_counts, has_drafts
from gmai_vl.corpus.fates import Fates, decide_fates
from gmai_vl.corpus.fingerprint import fingerprint
from gmai_vl.corpus.images import stored_images
from gmai_vl.corpus.parts import Part, tables_of
from gmai_vl.corpus.publishing.card import write_cards
from gmai_vl.corpus.recipe import DataRecipe, recipe_sha256
from gmai_vl.corpus.schema import CASES, DRAFTS, LEDGER, SAMPLES, Table
from gmai_vl.corpus.tables import count, table_rows
from gmai_vl.foundation import UserError, atomic_file, visible, write_json, write_text
from gmai_vl.writing import llm_prompt_texts, prompt_texts

ROWS_PER_FILE = 50_000
_ROWS_PER_GROUP = 2_000
_MOST_REASONS = 10


def merge_parts(parts: Sequence[Part], recipe: DataRecipe, corpus: Path) -> dict[str, Any]:
    """Write the tables, the prompts, the card and, last, the manifest; return the manifest.

    Does not look at the quarantine: `check_quarantine` comes before. Raises UserError if nothing is left to keep, or if
    the split goes by image though patients are known.
    """
    fates = decide_fates(parts, corpus, recipe)
    if not any(fates.sides):
        raise UserError("no item of any source could be used; look at labels, paths and subsets")

    _write_cases(parts, fates, corpus)
    _write_samples(parts, fates, corpus)
    if "drafts" in tables_of(recipe):
        _write_drafts(parts, corpus)
    _write_ledger(parts, fates, corpus)
    _write_prompts(corpus, by_model="drafts" in tables_of(recipe))
    for path in stored_images(corpus):
        if path.stem not in fates.contents:  # left by an interrupted build of files that have changed since
            path.unlink()

    manifest = {
        "name": recipe.name,
        "recipe": recipe.model_dump(mode="json"),
        "recipe_sha256": recipe_sha256(recipe),
        "tool_version": __version__,
        "split_unit": _split_unit(corpus, recipe),
        "near_duplicates": {"pairs": fates.near_duplicates, "units_tied": fates.tied},
        "counts": count(corpus),
        "fingerprint": fingerprint(table_rows(corpus, "samples"), table_rows(corpus, "ledger")),
        "use": "research use only, not for diagnosis",
    }
    if has_drafts(corpus):
        manifest["texts"] = draft_counts(corpus)
    write_cards(corpus, manifest)
    write_json(corpus / "manifest.json", manifest)
    return manifest


def check_quarantine(parts: Sequence[Part], recipe: DataRecipe, corpus: Path) -> None:
    """Raise UserError, after a table of reasons on standard error, if more of a source is unusable than allowed."""
    items_of_reason: dict[str, dict[str, list[str]]] = {source.name: {} for source in recipe.sources}
    seen: Counter[str] = Counter()
    for row in chain.from_iterable(part.read(corpus, "ledger").to_pylist() for part in parts):
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
            f"most often: {reasons[0]}; mend the source or the writer, or raise `max_quarantined` if this is expected"
        )


def _without_names(reason: str, item: str) -> str:
    """Return a reason as it reads for any item, so that equal ones can be counted.

    A stem of one or two signs may be a word or number of the reason itself, and stays.
    """
    path = PurePosixPath(item.partition("@")[0])
    for name in (f"{item}: ", f"{path.name}: "):
        reason = reason.removeprefix(name)
    for name in (str(path), str(path.with_suffix("")), path.name, path.stem):
        if len(name) > 2:
            reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "*", reason)
    return reason


def _split_unit(corpus: Path, recipe: DataRecipe) -> str:
    """Name the smallest thing kept whole: image where any case has no patient, file where files are the patients."""
    from_files = {
        source.name for source in recipe.sources if source.format in ("volume", "video") and source.patient is None
    }
    unit = "patient"
    for row in table_rows(corpus, "cases", ("source", "patient_id")):
        if row["patient_id"] is None:
            return "image"
        if row["source"] in from_files:
            unit = "file"
    return unit


def _write_cases(parts: Sequence[Part], fates: Fates, corpus: Path) -> None:
    with (
        atomic_file(corpus / "cases.parquet") as temporary,
        pq.ParquetWriter(temporary, CASES, compression="zstd") as file,
    ):
        for group in _in_groups(_kept(parts, fates, corpus, "cases")):
            file.write_table(group)


def _write_samples(parts: Sequence[Part], fates: Fates, corpus: Path) -> None:
    folder = corpus / "samples"
    shutil.rmtree(folder, ignore_errors=True)
    groups = _in_groups(_kept(parts, fates, corpus, "samples"))
    group, files = next(groups, None), 0
    while group is not None:
        with (
            atomic_file(folder / f"{files:05d}.parquet") as temporary,
            pq.ParquetWriter(temporary, SAMPLES, compression="zstd") as file,
        ):
            rows = 0
            while group is not None and rows < ROWS_PER_FILE:
                file.write_table(group)
                rows += group.num_rows
                group = next(groups, None)
        files += 1


def _kept(parts: Sequence[Part], fates: Fates, corpus: Path, table: Table) -> Iterator[pa.Table]:
    """Yield for every part the rows of its kept cases, with their sides."""
    first = 0
    for part in parts:
        cases = part.read(corpus, "cases", ("case_id",))["case_id"].to_pylist()
        side_of = dict(zip(cases, fates.sides[first : first + len(cases)], strict=True))
        first += len(cases)
        rows = part.read(corpus, table)
        sides = [side_of[case] for case in rows["case_id"].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index("split"), "split", pa.array(sides, pa.string()))
        yield rows.filter(pa.array([side is not None for side in sides], pa.bool_()))


def _write_drafts(parts: Sequence[Part], corpus: Path) -> None:
    with (
        atomic_file(corpus / "drafts.parquet") as temporary,
        pq.ParquetWriter(temporary, DRAFTS, compression="zstd") as file,
    ):
        for group in _in_groups(part.read(corpus, "drafts") for part in parts):
            file.write_table(group)


def _write_ledger(parts: Sequence[Part], fates: Fates, corpus: Path) -> None:
    with atomic_file(corpus / "ledger.parquet") as temporary, pq.ParquetWriter(temporary, LEDGER) as file:
        for group in _in_groups(_judged(part.read(corpus, "ledger"), fates) for part in parts):
            file.write_table(group)


def _judged(ledger: pa.Table, fates: Fates) -> pa.Table:
    """Return the rows with the duplicates among them named as such."""
    rows = ledger.to_pylist()
    for row in rows:
        twin = fates.twin_of.get(f"{row['source']}/{row['item']}") if row["outcome"] == "kept" else None
        if twin is not None:
            row |= {"outcome": "duplicate", "reason": twin}
    return pa.Table.from_pylist(rows, schema=LEDGER)


def _in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of `tables`, some thousand at a time: files of many small groups are slow and large."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(some.num_rows for some in waiting) >= _ROWS_PER_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _write_prompts(corpus: Path, *, by_model: bool) -> None:
    prompts = prompt_texts() | (llm_prompt_texts() if by_model else {})
    lines = [json.dumps({"prompt_id": key, "text": prompts[key]}, ensure_ascii=False) for key in sorted(prompts)]
    write_text(corpus / "prompts.jsonl", "".join(f"{line}\n" for line in lines))
