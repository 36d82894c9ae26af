"""Tables of labels: CSV, TSV, XLSX or Parquet, every cell as text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmai_vl.foundation import BadItem, UserError, nearest
from gmai_vl.sources.entries import READERS, Entry

MAX_BYTES = 2**30
"""Of a table, which is held in memory once read."""
MAX_XLSX_BYTES = 2**26
"""Of a packed workbook, which unpacks to many times that."""

Cells = dict[str, str]
"""Column -> text without blanks about it; "" for an empty cell."""


def check_table(path: Path, place: str) -> None:
    """Raise UserError, beginning with `place`, if there is no file at `path`."""
    if not path.is_file():
        raise UserError(f"{place}: {path} is no file; write it relative to `root`")


def read_rows(path: Path, place: str, columns: Sequence[str]) -> list[Cells]:
    """Return the given columns of all rows, in their order.

    Raises UserError, beginning with `place`, if the file is absent, too large, damaged, or lacks a column.
    """
    check_table(path, place)
    readers = {kind: READERS[kind] for kind in (".csv", ".tsv", ".parquet")}
    # Tables that end in .txt are written with tabs (Cholec80).
    readers |= {".txt": READERS[".tsv"], ".xlsx": _workbook}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{place}: {path.name} does not end in {', '.join(readers)}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{place}: {path.name} is larger than {MAX_BYTES} bytes; split it")
    columns = list(dict.fromkeys(columns))
    rows: list[Cells] = []
    try:
        for entry in reader(path, columns):
            if isinstance(entry, BadItem):
                raise entry
            if missing := [column for column in columns if column not in entry]:
                raise UserError(f"{place}: {path} has no column `{missing[0]}`; {nearest(missing[0], entry)}")
            rows.append({column: _text(entry[column]) for column in columns})
    except BadItem as bad:
        raise UserError(f"{place}: {path} cannot be read: row {len(rows) + 1}: {bad}") from None
    if not rows:
        raise UserError(f"{place}: {path} holds no rows")
    return rows


def _workbook(path: Path, wanted: Sequence[str]) -> Iterator[Entry | BadItem]:
    """Read the first sheet of a workbook; formulas count with the values that were stored with them."""
    from openpyxl import load_workbook

    if path.stat().st_size > MAX_XLSX_BYTES:
        raise BadItem(f"is larger than {MAX_XLSX_BYTES} bytes; write it as CSV or Parquet")
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        rows = book.worksheets[0].iter_rows(values_only=True)
        head = [_text(cell) for cell in next(rows, ())]
        for row in rows:
            if any(cell is not None for cell in row):
                yield dict.fromkeys(head) | dict(zip(head, row, strict=False))
        book.close()
    except BadItem:
        raise
    except Exception as error:  # noqa: BLE001  zip, XML and the library itself, each with its own
        raise BadItem(f"is no readable workbook: {' '.join(str(error).split())[:200]}") from None


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
