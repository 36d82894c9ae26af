"""A table as Markdown, CSV or LaTeX. Names come from files that others wrote: none of them is ever markup."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gmai_vl.corpus.review.cells import table_text
from gmai_vl.evaluation.reports.tables import Cell, Table, TableRow
from gmai_vl.foundation import visible

MOST_COLUMNS = 9
"""A table with more stands on its side: models side by side, columns below one another."""

_DESCRIBED = ("Model", "Status", "Source", "Protocol")

CSV_HEAD = (
    "table", "model", "status", "source", "protocol", "column", "per cent", "low", "high", "questions",
)  # fmt: skip

_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&$#]|(?<=\w):(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\symbol{34}", "`": r"\textasciigrave{}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as texts, line by line."""

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    described: int
    """First lines (of a table on its side) or first cells of a line that describe a model."""

    on_side: bool

    @property
    def first_number(self) -> int:
        """The first column that holds numbers."""
        return 1 if self.on_side else self.described

    def is_number(self, line: int, column: int) -> bool:
        """Say whether a cell below the head holds a number (or nothing), and not what describes a model or column."""
        return column >= self.first_number and not (self.on_side and line < self.described)


def grid_of(table: Table) -> Grid:
    """Return the texts of a table: a line for each model, or for each column where these are many."""
    lines = [
        (
            *(one_line(text) for text in (row.model, row.status, row.source, row.protocol)),
            *(_shown(table, row, name) for name in table.columns),
        )
        for row in table.rows
    ]
    head = (*_DESCRIBED, *map(one_line, table.columns))
    if len(table.columns) <= MOST_COLUMNS:
        return Grid(head, tuple(lines), len(_DESCRIBED), False)
    turned = list(zip(head, *lines, strict=True))
    return Grid(turned[0], tuple(turned[1:]), len(_DESCRIBED) - 1, True)


def _shown(table: Table, row: TableRow, column: str) -> str:
    cell = row.cells.get(column)
    return cell_text(cell, table.decimals) if cell else ""


def cell_text(cell: Cell, decimals: int) -> str:
    """Return a number with its interval and n where it has them: "71.3 [68.9, 73.6] n 451"."""
    parts = [f"{cell.value:.{decimals}f}"]
    if cell.interval:
        parts.append(f"[{cell.interval[0]:.{decimals}f}, {cell.interval[1]:.{decimals}f}]")
    if cell.n is not None:
        parts.append(f"n {cell.n:,}")
    return " ".join(parts)


def one_line(text: str) -> str:
    """Return a text on one line, control characters visible."""
    return visible(" ".join(text.split()))


def to_markdown(table: Table) -> str:
    """Return a heading, the table with a pipe between cells, and its notes as a list."""
    grid = grid_of(table)
    rule = ["---:" if place >= grid.first_number else "---" for place in range(len(grid.head))]
    lines = [[_markdown(text) for text in grid.head], rule]
    for place, line in enumerate(grid.lines):
        # Numbers are our own and stay readable in the source: no backslash before their brackets.
        texts = [text if grid.is_number(place, column) else _markdown(text) for column, text in enumerate(line)]
        lines.append(texts)
    parts = [f"## {_markdown(table.title)}", "\n".join("| " + " | ".join(line) + " |" for line in lines)]
    if table.notes:
        parts.append("\n".join(f"- {_markdown(note)}" for note in table.notes))
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    """Keep text from being read as emphasis, code, a link, HTML, mathematics or the end of a cell."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", one_line(text))


def to_csv(*tables: Table) -> str:
    """Return tables as one file with a line for every cell, also where it is empty; no text runs in a spreadsheet."""
    return table_text(CSV_HEAD, (line for table in tables for line in _csv_lines(table)))


def _csv_lines(table: Table) -> list[list[str]]:
    return [
        [
            table.name,
            one_line(row.model),
            row.status,
            one_line(row.source),
            one_line(row.protocol),
            one_line(column),
            *_numbers(row.cells.get(column), table.decimals),
        ]
        for row in table.rows
        for column in table.columns
    ]


def _numbers(cell: Cell | None, decimals: int) -> list[str]:
    if cell is None:
        return ["", "", "", ""]
    interval = [f"{bound:.{decimals}f}" for bound in cell.interval] if cell.interval else ["", ""]
    return [f"{cell.value:.{decimals}f}", *interval, "" if cell.n is None else str(cell.n)]


def to_latex(table: Table) -> str:
    """Return a `table` environment in the manner of booktabs; sources are numbered and stand below with the notes."""
    sources = {source: str(number) for number, source in enumerate(dict.fromkeys(row.source for row in table.rows), 1)}
    numbered = replace(table, rows=tuple(replace(row, source=sources[row.source]) for row in table.rows))
    grid = grid_of(numbered)
    columns = "".join("r" if place >= grid.first_number else "l" for place in range(len(grid.head)))
    lines = [
        " & ".join(_latex_cell(text, grid.is_number(place, column)) for column, text in enumerate(line)) + r" \\"
        for place, line in enumerate(grid.lines)
    ]
    notes = [*(f"Source {number}: {one_line(source)}." for source, number in sources.items()), *table.notes]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,textcomp} and \\usepackage{adjustbox}; names in other scripts need XeLaTeX",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.title)}. Accuracy in per cent.}}",
            rf"\label{{tab:{re.sub('[^a-z0-9-]', '-', table.name.lower())}}}",
            r"\begin{adjustbox}{max width=\textwidth}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(_latex(text) for text in grid.head) + r" \\",
            *([r"\midrule"] if not grid.on_side else []),
            *_ruled(table, grid, lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            "",
            r"\smallskip\footnotesize\raggedright",
            *(rf"{_latex(note)}\par" for note in notes),
            r"\end{table}",
            "",
        ]
    )


def _ruled(table: Table, grid: Grid, lines: Sequence[str]) -> list[str]:
    """Put a rule between what describes models and the numbers, or between printed and measured rows."""
    printed = sum(row.status == "published" for row in table.rows)
    after = grid.described if grid.on_side else printed
    return [*lines[:after], *([r"\midrule"] if 0 < after < len(lines) else []), *lines[after:]]


def _latex_cell(text: str, is_number: bool) -> str:
    """Return a cell, with the interval and n behind a number in small print."""
    first, blank, rest = text.partition(" ") if is_number else (text, "", "")
    return f"{_latex(first)} {{\\tiny {_latex(rest)}}}" if blank else _latex(first)


def _latex(text: str) -> str:
    """Keep text from being read as a command, as a ligature, or as the option of the line break before it."""
    escaped = "".join(_LATEX.get(character, character) for character in one_line(text))
    return re.sub(r"([-',])(?=\1)", r"\1{}", re.sub(r"^[\[*]", r"{\g<0>}", escaped))
