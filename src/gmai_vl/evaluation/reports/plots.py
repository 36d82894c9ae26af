"""Tables as pictures: bars with intervals, column by column, and a radar; each for light and for dark pages.

Colours are of Okabe and Ito (2008), told apart by colour-blind people too; printed rows are grey, and every line of a
radar has a mark of its own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, nan, pi
from pathlib import Path
from statistics import mean
from textwrap import wrap
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.projections.polar import PolarAxes

from gmai_vl.evaluation.reports.render import one_line
from gmai_vl.evaluation.reports.tables import Table, TableRow
from gmai_vl.foundation import atomic_file

MOST_PUBLISHED, MOST_MEASURED = 4, 4
"""Lines of a radar; more cannot be told apart."""

LEAST_SPOKES = 3

Format = Literal["svg", "png"]
Kind = Literal["bars", "radar"]

_PANELS_ABREAST = 4
_PANEL, _HEAD, _AROUND = 2.45, 0.42, 0.7
"""Inches: the width of a panel with its gap, what stands above all of them, what stands above and below each."""
_LONGEST_NAME = 36
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei")


@dataclass(frozen=True, kw_only=True, slots=True)
class Theme:
    """Colours for one kind of page."""

    name: str
    paper: str
    ink: str
    soft: str
    line: str

    printed: tuple[str, ...]
    """Of printed rows: a grey for bars first, then the greys of a radar's lines."""

    measured: tuple[str, ...]


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1d2733",
    soft="#5d6b7a",
    line="#dde3ea",
    printed=("#a9b4c0", "#1d2733", "#7b8794", "#a9b4c0", "#5d6b7a"),
    measured=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
)
DARK = Theme(
    name="dark",
    paper="#18202a",
    ink="#e4e9ef",
    soft="#93a1b0",
    line="#2b3642",
    printed=("#5a6775", "#e4e9ef", "#93a1b0", "#677585", "#b9c4d0"),
    measured=("#56b4e9", "#e69f00", "#2fc499", "#e39cc6", "#f0e442", "#f2764b"),
)
THEMES = (LIGHT, DARK)

_LINES: tuple[tuple[str, str], ...] = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "<"))
_MARKS = ("D", "v", "P", "X")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """One plot, as files for light and dark pages."""

    table: str
    """Name of the table that it shows."""

    kind: Kind
    files: Mapping[str, Path]
    """Name of the theme -> file."""


def write_plots(tables: Sequence[Table], folder: Path, form: Format = "svg") -> list[Plot]:
    """Write bars of every table, and a radar of those with at least three columns side by side, into `folder`."""
    rows = [row for table in tables for row in table.rows if row.status == "measured"]
    numbers = {run: number for number, run in enumerate(dict.fromkeys(map(_run, rows)))}
    plots = []
    for table in tables:
        plots.append(_write(table, "bars", numbers, folder, form))
        if len(table.spokes) >= LEAST_SPOKES:
            plots.append(_write(table, "radar", numbers, folder, form))
    return plots


def _run(row: TableRow) -> tuple[str, str]:
    """Return what has one colour in all plots."""
    return row.model, row.protocol


def _write(table: Table, kind: Kind, numbers: Mapping[tuple[str, str], int], folder: Path, form: Format) -> Plot:
    stem = f"{re.sub('[^a-z0-9-]', '-', table.name.lower())}-{kind}"
    files = {theme.name: folder / f"{stem}-{theme.name}.{form}" for theme in THEMES}
    for theme in THEMES:
        with _style(theme), atomic_file(files[theme.name]) as temporary:
            figure = (bars if kind == "bars" else radar)(table, theme, numbers)
            # No date and no random ids: the same numbers give the same file.
            metadata = {"Date": None} if form == "svg" else {"Software": None}
            figure.savefig(temporary, format=form, dpi=130, bbox_inches="tight", metadata=metadata)
    return Plot(table=table.name, kind=kind, files=files)


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    installed = {font.name for font in fontManager.ttflist}
    settings = {
        "font.family": [name for name in _FONTS if name in installed],
        "font.size": 9,
        "text.color": theme.ink,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "svg.hashsalt": "gmai-vl",
        "text.parse_math": False,  # names are no formulas
    }
    with matplotlib.rc_context(settings):
        yield


def bars(table: Table, theme: Theme, numbers: Mapping[tuple[str, str], int]) -> Figure:
    """Draw a panel for every column, with a bar for every model and the 95 % interval of one's own.

    A column that no printed row has is left to the table if another has some. `numbers` gives the colours of runs.
    """
    names = row_names(table.rows)
    printed = {name for row in table.rows if row.status == "published" for name in row.cells}
    columns = [name for name in table.columns if name in printed] or table.columns
    across = min(_PANELS_ABREAST, len(columns))
    down = ceil(len(columns) / across)
    left, tall = 0.075 * max(map(len, names)) + 0.1, 0.24 * len(names)  # inches, as all sizes here
    width, height = left + across * _PANEL, _HEAD + down * (tall + _AROUND)
    figure = Figure(figsize=(width, height))
    legend = "accuracy in per cent; coloured: measured, with 95 % interval" + ("; grey: published" if printed else "")
    figure.text(0, 1, table.title, va="top", fontsize=12)
    figure.text(0, 1 - 0.27 / height, legend, va="top", fontsize=8.5, color=theme.soft)
    for place, column in enumerate(columns):
        across_place, down_place = place % across, place // across
        bottom = height - _HEAD - (down_place + 1) * (tall + _AROUND) + 0.25
        sides = ((left + across_place * _PANEL) / width, bottom / height, (_PANEL - 0.3) / width, tall / height)
        axis = figure.add_axes(sides)
        _panel(axis, table, column, numbers, theme)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_yticks(
            range(len(names)), names if across_place == 0 else [""] * len(names), color=theme.ink, fontsize=8.5
        )
        for label, one in zip(axis.get_yticklabels(), table.rows, strict=True):
            label.set_fontweight("bold" if one.status == "measured" else "normal")
    return figure


def _panel(axis: Axes, table: Table, column: str, numbers: Mapping[tuple[str, str], int], theme: Theme) -> None:
    for place, row in enumerate(table.rows):
        cell = row.cells.get(column)
        if cell is None:
            continue
        colour = _colour(row, numbers, theme) if row.status == "measured" else theme.printed[0]
        axis.barh(place, cell.value, color=colour, height=0.68)
        end = cell.value
        if cell.interval:
            low, high = cell.interval
            end = max(end, high)
            axis.plot((low, high), (place, place), color=theme.ink, linewidth=1.1, solid_capstyle="butt")
            axis.plot((low, high), (place, place), "|", color=theme.ink, markersize=5)
        axis.text(end + 2, place, f"{cell.value:.{table.decimals}f}", va="center", fontsize=7.5, color=theme.soft)
    axis.set_title("\n".join(wrap(one_line(column), 34)), loc="left", fontsize=9, color=theme.ink)
    axis.set_xlim(0, 118)  # room for the number of a full bar
    axis.set_xticks((0, 25, 50, 75, 100))
    axis.tick_params("x", length=0, labelsize=7.5, labelcolor=theme.soft)
    axis.tick_params("y", length=0)
    axis.grid(axis="x", color=theme.line, linewidth=0.7)
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)


def _colour(row: TableRow, numbers: Mapping[tuple[str, str], int], theme: Theme) -> str:
    return theme.measured[numbers[_run(row)] % len(theme.measured)]


def radar(table: Table, theme: Theme, numbers: Mapping[tuple[str, str], int]) -> Figure:
    """Draw a spoke for every column side by side: the first whole printed rows and the best of one's own.

    Columns that a row does not have leave a gap in its line.
    """
    rows = _radar_rows(table)
    names = row_names(rows)
    angles = [2 * pi * place / len(table.spokes) for place in range(len(table.spokes))]
    figure = Figure(figsize=(6.6, 6.4))
    axis = figure.add_axes((0.2, 0.2, 0.6, 0.62), projection="polar")
    assert isinstance(axis, PolarAxes)
    axis.set_theta_zero_location("N")
    axis.set_theta_direction(-1)
    printed = measured = 0
    for row, name in zip(rows, names, strict=True):
        if row.status == "published":
            style, mark = _LINES[printed]
            printed += 1
            colour, width = theme.printed[printed], 1.3
        else:
            style, mark, colour, width = "-", _MARKS[measured], _colour(row, numbers, theme), 2.0
            measured += 1
        values = [row.cells[spoke].value if spoke in row.cells else nan for spoke in table.spokes]
        closed = [*values, values[0]]
        axis.plot([*angles, 0.0], closed, style, marker=mark, color=colour, linewidth=width, markersize=4, label=name)
    _spokes(axis, table, angles, theme)
    left_out = sum(row.status == "measured" for row in table.rows) - measured
    title = table.title + (f" · {left_out} more measured in the table" if left_out else "")
    figure.text(0.5, 0.945, f"{title}\naccuracy in per cent", ha="center", va="top", fontsize=11, color=theme.ink)
    legend = axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False, fontsize=8.5)
    for text in legend.get_texts():
        text.set_color(theme.ink)
    return figure


def _radar_rows(table: Table) -> list[TableRow]:
    known = [(row, [spoke for spoke in table.spokes if spoke in row.cells]) for row in table.rows]
    printed = [row for row, spokes in known if row.status == "published" and len(spokes) == len(table.spokes)]
    measured = [(row, spokes) for row, spokes in known if row.status == "measured" and spokes]
    best = sorted(measured, key=lambda entry: -mean(entry[0].cells[spoke].value for spoke in entry[1]))
    return [*printed[:MOST_PUBLISHED], *(row for row, _ in best[:MOST_MEASURED])]


def _spokes(axis: PolarAxes, table: Table, angles: Sequence[float], theme: Theme) -> None:
    axis.set_ylim(0, 100)
    axis.set_yticks((25, 50, 75, 100), [""] * 4)
    for ring in (25, 50, 75, 100):  # our own texts: those of the axis lie under the lines
        behind = {"facecolor": theme.paper, "edgecolor": "none", "pad": 0.6, "alpha": 0.7}
        axis.text(
            pi / len(angles),
            ring,
            f"{ring}",
            ha="center",
            va="center",
            fontsize=7,
            color=theme.soft,
            bbox=behind,
            zorder=4,
        )
    axis.set_xticks(angles, [""] * len(angles))
    axis.grid(color=theme.line)
    axis.spines["polar"].set_color(theme.line)
    for angle, spoke in zip(angles, table.spokes, strict=True):
        share = angle / (2 * pi)
        middle = share in (0, 0.5)
        axis.text(
            angle,
            106,
            "\n".join(wrap(one_line(spoke).replace(" - ", "\xa0- "), 20)),  # no line begins with the dash
            ha="center" if middle else "left" if share < 0.5 else "right",
            va="bottom" if share == 0 else "top" if share == 0.5 else "center",
            fontsize=8.5,
            color=theme.ink,
        )


def row_names(rows: Sequence[TableRow]) -> list[str]:
    """Return a short name for every row, no two alike: the model, with what tells it from others of that name."""
    models = [_short(row.model) for row in rows]
    alike = [models.count(model) > 1 for model in models]
    named = [
        f"{model} ({_short(row.protocol or row.source)})" if several else model
        for model, row, several in zip(models, rows, alike, strict=True)
    ]
    return [
        f"{name} #{named[: place + 1].count(name)}" if named.count(name) > 1 else name
        for place, name in enumerate(named)
    ]


def _short(name: str) -> str:
    plain = one_line(name)
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"
