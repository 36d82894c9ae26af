"""The tables of a corpus as they lie on disk: rows in file order, and what they add up to."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gmai_vl.corpus.schema import SCHEMAS, Row, Table
from gmai_vl.foundation import UserError

_ROWS_AT_A_TIME = 500


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
    whole = _Tally()
    of_sources: dict[str, _Tally] = defaultdict(_Tally)
    for row in table_rows(corpus, "ledger", ("source", "outcome")):
        for tally in (whole, of_sources[row["source"]]):
            tally.outcomes[row["outcome"]] += 1
    for row in table_rows(corpus, "cases", ("source", "split", "patient_id")):
        for tally in (whole, of_sources[row["source"]]):
            tally.cases[row["split"]] += 1
            tally.patients.add(row["patient_id"])
    for row in table_rows(corpus, "samples", ("source", "split")):
        for tally in (whole, of_sources[row["source"]]):
            tally.samples[row["split"]] += 1
    return whole.as_json() | {"sources": {name: of_sources[name].as_json() for name in sorted(of_sources)}}


@dataclass(slots=True)
class _Tally:
    cases: Counter[str] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)
    patients: set[str | None] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        return {
            "cases": self.cases.total(),
            "samples": self.samples.total(),
            "patients": len(self.patients - {None}),
            "cases_by_split": dict(sorted(self.cases.items())),
            "samples_by_split": dict(sorted(self.samples.items())),
            "outcomes": dict(sorted(self.outcomes.items())),
        }
