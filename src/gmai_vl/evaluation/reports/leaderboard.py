"""leaderboard.html, .md, .csv, .tex and plots of every score below a folder, beside what was printed."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from gmai_vl.corpus.page import page
from gmai_vl.evaluation.reports.page import writable
from gmai_vl.evaluation.reports.plots import Plot, write_plots
from gmai_vl.evaluation.reports.render import grid_of, to_csv, to_latex, to_markdown
from gmai_vl.evaluation.reports.runs import Run, read_run
from gmai_vl.evaluation.reports.tables import Table, own_tables, paper_tables
from gmai_vl.foundation import UserError, write_text

T = TypeVar("T")

USE = "Research use only, not for diagnosis."


def gather(folder: Path) -> list[Run]:
    """Return every score.json below `folder`, in the order of their paths.

    Raises UserError if the folder is absent, or naming the first file that is unreadable or no score: none is skipped.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds your runs")
    return [read_run(path) for path in sorted(folder.rglob("score.json"))]


def write_leaderboard(folder: Path) -> Path:
    """Write the leaderboard of the scores below `folder` into it, and return the path of the page.

    Raises UserError as `gather` does, and where there is no score.
    """
    runs = gather(folder)
    if not runs:
        raise UserError(f"{folder}: no score.json below it; run `gmai eval run` with an --out in this folder")
    (side_by_side, every_run), paper = own_tables(runs), paper_tables(runs)
    tables = [side_by_side, *paper, every_run]
    plots = write_plots([side_by_side, *paper], folder / "plots")
    write_text(folder / "leaderboard.md", "\n".join([f"# Leaderboard\n\n{USE}\n", *map(to_markdown, tables)]))
    write_text(folder / "leaderboard.csv", to_csv(*tables))
    write_text(folder / "leaderboard.tex", "\n".join([f"% {USE}", *map(to_latex, tables)]))
    write_text(folder / "leaderboard.html", writable(_page(runs, tables, plots)))
    return folder / "leaderboard.html"


def _page(runs: Sequence[Run], tables: Sequence[Table], plots: Sequence[Plot]) -> str:
    return page(
        "gmai_vl.evaluation.reports",
        "leaderboard",
        runs=len(runs),
        models=len({run.model for run in runs}),
        tables=[_shown(table, [plot for plot in plots if plot.table == table.name]) for table in tables],
    )


def _shown(table: Table, plots: Sequence[Plot]) -> dict[str, Any]:
    grid = grid_of(table)
    lines = [
        [_cell(text, is_number=grid.is_number(place, column)) for column, text in enumerate(line)]
        for place, line in enumerate(grid.lines)
    ]
    if not grid.on_side:
        lines = [_source_last(line) for line in lines]
    ours = [False] * len(lines) if grid.on_side else [row.status == "measured" for row in table.rows]
    return {
        "name": table.name,
        "title": table.title,
        "head": grid.head if grid.on_side else _source_last(grid.head),
        "lines": [{"ours": ours[place], "cells": line} for place, line in enumerate(lines)],
        "on_side": grid.on_side,
        "notes": table.notes,
        "plots": [
            {"kind": plot.kind, **{theme: _data_uri(path) for theme, path in plot.files.items()}} for plot in plots
        ],
    }


def _source_last(line: Sequence[T]) -> list[T]:
    """Move the source behind the numbers: it is long, and they are what a narrow screen should show first."""
    return [*line[:2], *line[3:], line[2]]


def _cell(text: str, *, is_number: bool) -> tuple[str, str]:
    """Return what is said first and what in small print behind it: a number, its interval with n."""
    first, _, rest = text.partition(" ") if is_number else (text, "", "")
    return first, rest


def _data_uri(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
