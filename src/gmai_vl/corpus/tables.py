"""The tables of a corpus as they lie on disk: rows in file order, and what they add up to."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gmai_vl.corpus.schema import SCHEMAS, Row, Table
from gmai_vl.foundation import UserError

_ROWS_AT_A_TIME = 2_000


def table_files(corpus: Path, table: Table) -> list[Path]:
    """Return the Parquet files of a table, in row order."""
    return sorted((corpus / "samples").glob("*.parquet")) if table == "samples" else [corpus / f"{table}.parquet"]


def open_table(path: Path, table: Table) -> pq.ParquetFile:
    """Open one Parquet file of a table. Raises UserError if it is damaged or lacks a column that this version reads."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({error}); build the corpus anew") from None
    if missing := [name for name in SCHEMAS[table].names if name not in file.schema_arrow.names]:
        file.close()
        raise UserError(f"{path}: has no column `{missing[0]}`, another version wrote it; build the corpus anew")
    return file


def table_rows(corpus: Path, table: Table, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a table, all columns or some, a few thousand in memory at a time."""
    for path in table_files(corpus, table):
        with open_table(path, table) as file:
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
