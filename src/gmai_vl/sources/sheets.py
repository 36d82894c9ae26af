"""Tables of annotations: CSV, TSV, XLSX or Parquet, every cell as text."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmai_vl.foundation import UserError, nearest

MAX_BYTES = 2**30
"""Of a table, which is held in memory once read."""

SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet")

Cells = dict[str, str]
"""Column -> text without blanks about it; "" for an empty cell."""


def check_table(path: Path, place: str) -> None:
    """Raise UserError, beginning with `place`, if there is no file at `path`."""
    if not path.is_file():
        raise UserError(f"{place}: {path} is no file; write it relative to `root`")


def read_rows(path: Path, place: str, columns: Sequence[str]) -> tuple[Cells, ...]:
    """Return the given columns of all rows, in their order.

    Raises UserError, beginning with `place`, if the file is absent, too large, damaged, or lacks a column.
    """
    check_table(path, place)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{place}: {path} is larger than {MAX_BYTES} bytes; split it")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{place}: {path.name} does not end in {', '.join(SUFFIXES)}")
    try:
        return tuple(_READERS[path.suffix.lower()](path, list(dict.fromkeys(columns))))
    except _NoColumnError as missing:
        raise UserError(f"{place}: {path} has no column {missing}") from None
    except Exception as error:  # noqa: BLE001  three libraries, each with its own; whatever it is, the table is unusable
        raise UserError(f"{place}: {path} cannot be read: {' '.join(str(error).split())[:200]}") from None


class _NoColumnError(Exception):
    pass


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    csv.field_size_limit(2**24)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        _check(columns, [name or "" for name in rows.fieldnames or ()])
        for row in rows:
            yield {column: (row[column] or "").strip() for column in columns}


def _xlsx_rows(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    try:
        rows = book.worksheets[0].iter_rows(values_only=True)
        head = [_text(cell) for cell in next(rows, ())]
        _check(columns, head)
        places = {column: head.index(column) for column in columns}
        for row in rows:
            if any(cell is not None for cell in row):
                yield {column: _text(row[place]) if place < len(row) else "" for column, place in places.items()}
    finally:
        book.close()


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _check(columns, file.schema_arrow.names)
        for batch in file.iter_batches(columns=list(columns)):
            for row in batch.to_pylist():
                yield {column: _text(row[column]) for column in columns}


_READERS = {".csv": _csv_rows, ".tsv": _csv_rows, ".xlsx": _xlsx_rows, ".parquet": _parquet_rows}


def _check(columns: Sequence[str], known: Sequence[str]) -> None:
    for column in columns:
        if column not in known:
            raise _NoColumnError(f"`{column}`; {nearest(column, known)}")


def _text(cell: Any) -> str:
    """Return a cell as a CSV file would have it: whole numbers without a point, nothing for no number."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def unwanted(row: Mapping[str, str], where: Mapping[str, Sequence[str]]) -> str | None:
    """Return why a row is not wanted, None if it is: `where` gives column -> values that are."""
    for column, values in where.items():
        if row[column] not in values:
            return f"`{column}` is `{row[column]}`, which `where` does not name"
    return None
