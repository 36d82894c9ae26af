"""Scores beside what was published: tables as text. What needs more libraries is in `page`, `plots`, `leaderboard`."""

from gmai_vl.evaluation.reports.published import Column, PublishedRow, PublishedTable, published_tables
from gmai_vl.evaluation.reports.render import to_csv, to_latex, to_markdown
from gmai_vl.evaluation.reports.runs import Run, read_run, run_of
from gmai_vl.evaluation.reports.tables import Cell, Table, TableRow, own_tables, paper_tables

__all__ = [
    "Cell",
    "Column",
    "PublishedRow",
    "PublishedTable",
    "Run",
    "Table",
    "TableRow",
    "own_tables",
    "paper_tables",
    "published_tables",
    "read_run",
    "run_of",
    "to_csv",
    "to_latex",
    "to_markdown",
]
