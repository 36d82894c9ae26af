"""Rows of official files: JSON, JSON lines, CSV, TSV or Parquet, each value with the place that a message names."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gmai_vl.foundation import BadItem, UserError
from gmai_vl.sources.entries import Entry, check_columns, read_entries


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file."""

    file: Path
    number: int
    """From 1."""

    values: dict[str, Any]

    @property
    def place(self) -> str:
        """What a message begins with."""
        return f"{self.file}: row {self.number}"

    def text(self, column: str) -> str:
        """Return a value as text without blanks about it; numbers as they are written. Raises UserError if it is none.

        "None", "NA" and the like are texts here: they stand for an option or answer of that name.
        """
        value = self.values.get(column)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError(f"{self.place}: `{column}` is {value!r}; a text or a number is needed")
        return str(value).strip()

    def filled(self, column: str) -> str:
        """Return a value as `text` does. Raises UserError if it is blank as well."""
        text = self.text(column)
        if not text:
            raise UserError(f"{self.place}: `{column}` is empty")
        return text

    def optional(self, column: str) -> str | None:
        """Return a value as `text` does; None where the cell is absent or empty."""
        value = self.values.get(column)
        return None if value is None or value == "" else self.text(column)

    def listed(self, column: str) -> list[str]:
        """Return a list of texts, or one that a string holds as a Python literal. Raises UserError if it is none."""
        value = self.values.get(column)
        if isinstance(value, str):
            try:
                value = ast.literal_eval(value.strip() or "[]")
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise UserError(f"{self.place}: `{column}` is no list: {value[:60]!r}") from None
        if not isinstance(value, list) or not all(isinstance(entry, str | int | float) for entry in value):
            raise UserError(f"{self.place}: `{column}` is {str(value)[:60]}; a list of texts is needed")
        return [str(entry).strip() for entry in value]


def files_of(data: Path, *patterns: str) -> list[Path]:
    """Return the files of the first pattern that has any below `data`, by name; `data` may be the file itself."""
    if data.is_file():
        return [data] if any(data.match(pattern) for pattern in patterns) else []
    if not data.is_dir():
        raise UserError(f"{data}: no such file or folder; give what was downloaded")
    for pattern in patterns:
        if found := sorted(path for path in data.glob(pattern) if path.is_file()):
            return found
    return []


def rows_of(file: Path, columns: Sequence[str], may_lack: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a file with these columns; those of `may_lack` may be absent from all.

    Raises UserError where a column is absent, before the first row, or where the file or one of its rows cannot be
    read: a benchmark has no row to spare.
    """
    try:
        for number, entry in _entries(file, columns, may_lack):
            if isinstance(entry, BadItem):
                raise UserError(f"{file}: row {number}: {entry}; download it again")
            yield Row(file, number, entry)
    except BadItem as bad:
        raise UserError(f"{file.parent}: {bad}; download it again") from None


def _entries(file: Path, columns: Sequence[str], may_lack: Sequence[str]) -> Iterable[tuple[int, Entry | BadItem]]:
    """Return the entries of a file whose columns are there: in JSON the last of them may be the first that has one."""
    entries = read_entries(file, str(file), [*columns, *may_lack], may_lack)
    if file.suffix.lower() != ".parquet":
        return list(entries)
    with suppress(OSError, pa.ArrowException):  # of a damaged file, which is told by reading it
        names = pq.read_schema(file).names
        check_columns(file, [column for column in columns if column not in may_lack], names, str(file))
    return entries  # one by one, for they hold pictures
