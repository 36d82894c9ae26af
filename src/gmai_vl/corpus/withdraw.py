"""Withdraw a source: its images, annotations and texts leave the corpus, and what was made from it is named."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from gmai_vl.corpus.drafts import draft_counts, has_drafts
from gmai_vl.corpus.fingerprint import fingerprint
from gmai_vl.corpus.images import stored_images
from gmai_vl.corpus.publishing.card import write_cards
from gmai_vl.corpus.reader import WITHDRAWING, read_manifest
from gmai_vl.corpus.review.record import forget_source
from gmai_vl.corpus.schema import Row, Table
from gmai_vl.corpus.tables import count, open_table, table_files, table_rows
from gmai_vl.foundation import UserError, atomic_file, canonical_json, nearest, sha256_of_text, write_json

_ROWS_AT_A_TIME = 5_000
_MADE_FROM_TABLES = ("browse.html", "card.md", "croissant.json", "stats")
"""What shows the source. Card and croissant.json are written anew at the end, the others by `stats` and `browse`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Descendant:
    """Something on disk that holds the withdrawn source, or was trained on it."""

    kind: Literal["corpus", "checkpoint", "run", "review sheets"]
    path: Path
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdrawal:
    """What a withdrawal came to."""

    cases: int
    samples: int
    fingerprint_before: str
    fingerprint: str
    descendants: tuple[Descendant, ...]
    """Other corpora with the source; checkpoints, runs and sheets made from this corpus before the withdrawal."""


def withdraw(corpus: Path, source: str, search: Sequence[Path]) -> Withdrawal:
    """Take `source` out of a finished corpus and look below `search` for what else was made from it.

    The corpus is then the one that its recipe without the source would build, but for two things: the sides of the
    split stay as they were, and pictures that were left out as duplicates of withdrawn ones stay out (their ledger
    rows become `excluded`). A killed withdrawal is finished by calling it again; in between no reader opens the corpus.
    Raises UserError if there is no such corpus or source, or if nothing would be left.
    """
    mark = corpus / WITHDRAWING
    begun = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else None
    manifest = read_manifest(corpus, unfinished_withdrawal=True)
    if begun is None:
        _check(corpus, source, manifest)
        counts = manifest["counts"]["sources"][source]
        begun = {"source": source, "cases": counts["cases"], "samples": counts["samples"]}
        begun |= {"fingerprint": manifest["fingerprint"], "corpus": manifest["name"]}
        write_json(mark, begun)
    elif begun["source"] != source:
        raise UserError(f"{corpus}: the withdrawal of `{begun['source']}` was interrupted; finish that one first")
    entry = next((each for each in manifest["recipe"]["sources"] if each["name"] == source), None)
    _take_out(corpus, source)
    if entry is not None:  # else a killed withdrawal has written the manifest already
        manifest = _without(manifest, begun, entry, corpus)
        forget_source(corpus, source, begun["fingerprint"], manifest["fingerprint"])
    write_cards(corpus, manifest)
    write_json(corpus / "manifest.json", manifest)
    mark.unlink()
    after = read_manifest(corpus)
    left = next(each for each in reversed(after["withdrawn"]) if each["source"] == source)
    return Withdrawal(
        cases=left["cases"],
        samples=left["samples"],
        fingerprint_before=left["fingerprint"],
        fingerprint=after["fingerprint"],
        descendants=tuple(_descendants(corpus, left, search)),
    )


def _check(corpus: Path, source: str, manifest: dict[str, Any]) -> None:
    names = [entry["name"] for entry in manifest["recipe"]["sources"]]
    if source not in names:
        if any(each["source"] == source for each in manifest.get("withdrawn", ())):
            raise UserError(f"{corpus}: source `{source}` was withdrawn before; nothing to do")
        raise UserError(f"{corpus}: has no source `{source}`; {nearest(source, names)}")
    if manifest["counts"]["cases"] == manifest["counts"]["sources"].get(source, {"cases": 0})["cases"]:
        raise UserError(f"{corpus}: nothing would be left without `{source}`; remove the folder instead")


def _take_out(corpus: Path, source: str) -> None:
    """Rewrite the tables without `source`, then remove its images. Each step may be done again."""
    for left in corpus.rglob(".*.tmp"):  # of a killed withdrawal
        left.unlink()
    twins = (f"same pixels as {source}/", f"same words as {source}/")
    reason = f"same pixels as a picture of `{source}`, which was withdrawn; build anew to take it from here"

    def others(rows: list[Row]) -> list[Row]:
        return [row for row in rows if row["source"] != source]

    def without_twins(rows: list[Row]) -> list[Row]:
        is_twin = [(row["reason"] or "").startswith(twins) for row in rows]
        return [
            row | {"outcome": "excluded", "reason": reason} if twin else row
            for row, twin in zip(rows, is_twin, strict=True)
        ]

    tables: tuple[Table, ...] = ("samples", "cases", "drafts") if has_drafts(corpus) else ("samples", "cases")
    for table in tables:
        for path in table_files(corpus, table):
            _rewrite(path, table, others)
    _rewrite(corpus / "ledger.parquet", "ledger", lambda rows: without_twins(others(rows)))
    kept = {row["image"] for row in table_rows(corpus, "cases", ("image",))}
    for image in stored_images(corpus):
        if image.stem not in kept:
            image.unlink()
    for name in _MADE_FROM_TABLES:
        path = corpus / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _rewrite(path: Path, table: Table, change: Callable[[list[Row]], list[Row]]) -> None:
    with open_table(path, table) as file:
        schema = file.schema_arrow
        with (
            atomic_file(path) as temporary,
            pq.ParquetWriter(temporary, schema, compression="zstd") as new,
        ):
            for batch in file.iter_batches(_ROWS_AT_A_TIME):
                new.write_table(pa.Table.from_pylist(change(batch.to_pylist()), schema=schema))


def _without(manifest: dict[str, Any], begun: dict[str, Any], entry: dict[str, Any], corpus: Path) -> dict[str, Any]:
    recipe = manifest["recipe"] | {
        "sources": [source for source in manifest["recipe"]["sources"] if source["name"] != entry["name"]]
    }
    left = begun | {"url": entry.get("url"), "license": entry.get("license")}
    texts = {"texts": draft_counts(corpus)} if has_drafts(corpus) else {}
    return (
        manifest
        | texts
        | {
            "recipe": recipe,
            "recipe_sha256": sha256_of_text(canonical_json(recipe)),
            "counts": count(corpus),
            "fingerprint": fingerprint(table_rows(corpus, "samples"), table_rows(corpus, "ledger")),
            "withdrawn": [*manifest.get("withdrawn", ()), left],
        }
    )


def _descendants(corpus: Path, left: dict[str, Any], search: Sequence[Path]) -> Iterator[Descendant]:
    runs: dict[Path, str] = {}
    for folder, files in _folders(search):
        if folder.resolve() == corpus.resolve():
            continue
        if "manifest.json" in files and (why := _why(folder / "manifest.json", _holds_source, left)):
            yield Descendant(kind="corpus", path=folder, why=why)
        if "provenance.json" in files and (why := _why(folder / "provenance.json", _was_trained_on, left)):
            yield Descendant(kind="checkpoint", path=folder, why=why)
            if (folder.parent / "log.jsonl").is_file():
                runs.setdefault(folder.parent, why)
        if {"sheet.html", "review.json"} <= set(files) and (why := _why(folder / "review.json", _shows_source, left)):
            yield Descendant(kind="review sheets", path=folder, why=why)
    yield from (Descendant(kind="run", path=run, why=why) for run, why in runs.items())


def _folders(search: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder once, with the names of its files; not hidden ones and not those of images."""
    seen: set[Path] = set()
    for root in search:
        for name, folders, files in os.walk(root):
            folders[:] = sorted(each for each in folders if each != "images" and not each.startswith("."))
            folder = Path(name)
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder, files


def _why(path: Path, judge: Callable[[Any, dict[str, Any]], str | None], left: dict[str, Any]) -> str | None:
    try:
        return judge(json.loads(path.read_text(encoding="utf-8")), left)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{path.name} cannot be read, so it cannot be told"


def _holds_source(manifest: Any, left: dict[str, Any]) -> str | None:
    for entry in (manifest.get("recipe") or {}).get("sources", ()):
        if left["url"] and entry.get("url") == left["url"]:
            return f"its source `{entry['name']}` comes from {left['url']}"
        if entry["name"] == left["source"]:
            return f"has a source of the name `{left['source']}`"
    return None


def _shows_source(sheets: Any, left: dict[str, Any]) -> str | None:
    shown = sum(pair["source"] == left["source"] for pair in sheets["pairs"])
    return f"shows {shown} pairs of a source of the name `{left['source']}`" if shown else None


def _was_trained_on(provenance: Any, left: dict[str, Any]) -> str | None:
    """Look at the stages, and at those of the checkpoint that the training went on from."""
    own = [(stage["name"], corpus) for stage in provenance.get("stages", ()) for corpus in stage["corpora"]]
    for stage, corpus in own:
        if corpus["fingerprint"] == left["fingerprint"]:
            return f"its stage {stage} read this corpus as it was before ({left['fingerprint'][:12]})"
    for stage, corpus in own:
        if corpus["name"] == left["corpus"]:
            return f"its stage {stage} read another version of this corpus ({corpus['fingerprint'][:12]})"
    earlier = provenance.get("origin", {}).get("provenance")
    why = _was_trained_on(earlier, left) if earlier else None
    return f"goes on from a checkpoint: {why}" if why else None
