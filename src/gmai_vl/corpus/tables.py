"""The tables of a corpus as they lie on disk: rows in file order, and what they add up to."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gmai_vl.corpus.schema import Row, Table

_ROWS_AT_A_TIME = 2_000


def table_files(corpus: Path, table: Table) -> list[Path]:
    """Return the Parquet files of a table, in row order."""
    return sorted((corpus / "samples").glob("*.parquet")) if table == "samples" else [corpus / f"{table}.parquet"]


def table_rows(corpus: Path, table: Table, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a table, all columns or some, a few thousand in memory at a time."""
    for path in table_files(corpus, table):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=columns and list(columns)):
                yield from batch.to_pylist()


def count(corpus: Path) -> dict[str, Any]:
    """Count cases, patients, samples and outcomes: of the whole corpus, and under `sources` of each source."""
    rows = {
        "cases": list(table_rows(corpus, "cases", ("source", "split", "patient_id"))),
        "samples": list(table_rows(corpus, "samples", ("source", "split"))),
        "ledger": list(table_rows(corpus, "ledger", ("source", "outcome"))),
    }
    names = sorted({row["source"] for row in rows["ledger"]})
    of_sources = {
        name: _tally({table: [row for row in rows[table] if row["source"] == name] for table in rows}) for name in names
    }
    return _tally(rows) | {"sources": of_sources}


def _tally(rows: dict[str, list[Row]]) -> dict[str, Any]:
    return {
        "cases": len(rows["cases"]),
        "samples": len(rows["samples"]),
        "patients": len({row["patient_id"] for row in rows["cases"]} - {None}),
        "cases_by_split": _numbers(row["split"] for row in rows["cases"]),
        "samples_by_split": _numbers(row["split"] for row in rows["samples"]),
        "outcomes": _numbers(row["outcome"] for row in rows["ledger"]),
    }


def _numbers(names: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
