"""What papers and READMEs have printed: the result tables of GMAI-VL, from published.yaml beside this file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table, and which part of a score belongs there."""

    name: str
    """In full; for a column of a group also the value of the group."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks whose scores belong there, the one of the printed values first; none for a mean of columns."""

    group: str | None = None
    """Group of the score that has `name` among its values; None for all questions."""

    macro_over: str | None = None
    """Group of the score over whose values the plain mean is taken."""

    mean_of: tuple[str, ...] = ()
    """Columns of the table whose plain mean it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """What was printed of one model."""

    model: str

    source: str
    """Where it was printed."""

    values: Mapping[str, float]
    """Column -> accuracy in per cent; a column is left out where nothing is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTable:
    """One table as printed, with what must be known to read it."""

    name: str
    """For names of files."""

    title: str
    source: str

    decimals: int
    """After the point, as printed."""

    columns: tuple[Column, ...]

    more_columns: tuple[Column, ...]
    """Columns without printed values, which one's own runs can fill."""

    rows: tuple[PublishedRow, ...]
    notes: tuple[str, ...]

    @property
    def spokes(self) -> tuple[str, ...]:
        """The columns that stand side by side, without what sums them up."""
        grouped = tuple(column.name for column in self.columns if column.group)
        return grouped or tuple(column.name for column in self.columns if not column.mean_of)


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Return the tables of the paper in its order."""
    text = (files("gmai_vl.evaluation.reports") / "published.yaml").read_text(encoding="utf-8")
    return tuple(_table(table) for table in yaml.safe_load(text))


def _table(table: Mapping[str, Any]) -> PublishedTable:
    shared = table.get("each column", {})
    columns = tuple(_column(column, shared) for column in table["columns"])
    return PublishedTable(
        name=table["name"],
        title=table["title"],
        source=table["source"],
        decimals=table["decimals"],
        columns=columns,
        more_columns=tuple(_column(column, shared) for column in table.get("more columns", ())),
        rows=tuple(_row(row, table["source"], [column.name for column in columns]) for row in table["rows"]),
        notes=tuple(table["notes"]),
    )


def _column(column: str | Mapping[str, Any], shared: Mapping[str, Any]) -> Column:
    given = {**shared, **({"name": column} if isinstance(column, str) else column)}
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return Column(**arguments)


def _row(row: Mapping[str, Any], source: str, columns: Sequence[str]) -> PublishedRow:
    values = row["values"] if isinstance(row["values"], dict) else dict(zip(columns, row["values"], strict=True))
    assert values.keys() <= set(columns), row["model"]
    return PublishedRow(model=row["model"], source=row.get("source", source), values=values)
