"""Tables of results: what was printed of others, and one's own scores in the cells where they belong."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from gmai_vl.evaluation.reports.published import Column, PublishedTable, published_tables
from gmai_vl.evaluation.reports.runs import Group, Interval, Run

LEGEND = (
    "Measured rows: accuracy in per cent with the 95 % interval, clustered by patient, and the number of questions n; "
    "the protocol says how answers were read. Rows of different protocols, prompts or forms of the data are not like "
    "for like."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One number of a table. Accuracies are in per cent."""

    value: float

    interval: tuple[float, float] | None = None
    """95 %; None for printed numbers and for means."""

    n: int | None = None
    """Questions; None for printed numbers and for means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """What is known of one model."""

    model: str
    status: Literal["published", "measured"]

    source: str
    """Where it was printed; of measured rows which form of the data, with leaks and guesses."""

    protocol: str = ""
    """How answers were read; empty where it was not told."""

    cells: Mapping[str, Cell]
    """Column -> number; a column without one is left out and stays empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Results, ready to be written or plotted."""

    name: str
    """For names of files."""

    title: str
    columns: tuple[str, ...]

    spokes: tuple[str, ...]
    """The columns that a radar shows."""

    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()

    decimals: int = 1
    """After the point."""


def paper_tables(runs: Sequence[Run]) -> list[Table]:
    """Return the tables of the paper with the runs that belong there below the printed rows.

    Runs of one model under one protocol share a row. Of several on one benchmark the one with most questions, then the
    newest, stands there; the others have rows of their own. A group that a score does not have leaves its cell empty.
    """
    return [_paper_table(table, runs) for table in published_tables()]


def _paper_table(published: PublishedTable, runs: Sequence[Run]) -> Table:
    columns = (*published.columns, *published.more_columns)
    printed = [
        TableRow(
            model=row.model,
            status="published",
            source=row.source,
            cells={name: Cell(value=value) for name, value in row.values.items()},
        )
        for row in published.rows
    ]
    measured = [row for together in _together(columns, runs) if (row := _measured_row(columns, together)).cells]
    filled = {name for row in measured for name in row.cells} | {column.name for column in published.columns}
    return Table(
        name=published.name,
        title=published.title,
        columns=tuple(column.name for column in columns if column.name in filled),
        spokes=published.spokes,
        rows=(*printed, *measured),
        notes=(*published.notes, *([LEGEND] if measured else [])),
        decimals=published.decimals,
    )


def _together(columns: Sequence[Column], runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Yield the runs that share a row, by model and protocol.

    Where a column takes either of two benchmarks (validation or test), each has rows of its own.
    """
    choice = {name: place for column in columns for place, name in enumerate(column.benchmarks)}
    rows: dict[tuple[str, str, str, int], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.benchmark in choice:
            key = (run.model, run.manifest.model_sha256, run.protocol, choice[run.benchmark])
            rows[key][run.benchmark].append(run)
    for _, by_benchmark in sorted(rows.items()):
        several = [_best_first(of_one) for of_one in by_benchmark.values()]
        yield [first for first, *_ in several]
        yield from ([other] for _, *others in several for other in others)


def _best_first(runs: Iterable[Run]) -> list[Run]:
    by_place = sorted(runs, key=lambda run: run.place)
    return sorted(by_place, key=lambda run: (run.n, run.manifest.created), reverse=True)


def _measured_row(columns: Sequence[Column], runs: Sequence[Run]) -> TableRow:
    by_benchmark = {run.benchmark: run for run in runs}
    cells: dict[str, Cell] = {}
    for column in columns:
        run = next((by_benchmark[name] for name in column.benchmarks if name in by_benchmark), None)
        cell = _mean(column, cells) if column.mean_of else _cell(column, run) if run else None
        if cell is not None:
            cells[column.name] = cell
    return TableRow(
        model=runs[0].model,
        status="measured",
        source=_sources(runs),
        protocol=runs[0].protocol,
        cells=cells,
    )


def _sources(runs: Sequence[Run]) -> str:
    """Return the remarks on runs, each once, behind the benchmarks that it is about."""
    benchmarks: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda run: run.benchmark):
        benchmarks.setdefault(run.remarks, []).append(run.benchmark)
    return "; ".join(f"{', '.join(names)}: {remarks}" for remarks, names in benchmarks.items())


def _mean(column: Column, cells: Mapping[str, Cell]) -> Cell | None:
    """Return the plain mean of other cells, if there are all of them."""
    if not set(column.mean_of) <= cells.keys():
        return None
    return Cell(value=mean(cells[name].value for name in column.mean_of))


def _cell(column: Column, run: Run) -> Cell | None:
    if column.macro_over:
        groups = run.groups.get(column.macro_over, {}).values()
        return Cell(value=100 * mean(group.accuracy for group in groups)) if groups else None
    if column.group is None:
        return _number(run.micro, run.interval, run.n)
    group = _by_plain_name(run.groups.get(column.group, {})).get(_plain(column.name))
    return _number(group.accuracy, group.interval, group.n) if group and group.n else None


def _number(share: float, interval: Interval | None, n: int) -> Cell:
    return Cell(value=100 * share, interval=(100 * interval[0], 100 * interval[1]) if interval else None, n=n)


def _by_plain_name(groups: Mapping[str, Group]) -> dict[str, Group]:
    return {_plain(name): group for name, group in groups.items()}


def _plain(name: str) -> str:
    """Return a name without what copies of a benchmark write differently: case, hyphens, underscores, ampersands."""
    return " ".join(re.findall(r"\w+", name.lower().replace("_", " ").replace("&", " and ")))


def own_tables(runs: Sequence[Run]) -> list[Table]:
    """Return what one's own models reach on each benchmark, side by side, and a table with every run."""
    columns = [Column(name=name, benchmarks=(name,)) for name in sorted({run.benchmark for run in runs})]
    names = tuple(column.name for column in columns)
    side_by_side = Table(
        name="own-models",
        title="Own models by benchmark",
        columns=names,
        spokes=names,
        rows=tuple(_measured_row(columns, together) for together in _together(columns, runs)),
        notes=(LEGEND,),
    )
    ordered = sorted(runs, key=lambda run: (run.benchmark, -run.micro, run.model, run.place))
    rows = tuple(
        TableRow(
            model=run.model,
            status="measured",
            source=f"{run.benchmark}: {run.remarks}",
            protocol=run.protocol,
            cells=_run_cells(run),
        )
        for run in ordered
    )
    every_run = Table(
        name="own-runs",
        title="Every run",
        columns=tuple(dict.fromkeys(name for row in rows for name in row.cells)),
        spokes=(),
        rows=rows,
    )
    return [side_by_side, every_run]


def _run_cells(run: Run) -> dict[str, Cell]:
    cells = {"Accuracy": _number(run.micro, run.interval, run.n)}
    if run.macro is not None:
        cells[f"Mean by {run.macro_over.replace('_', ' ')}"] = Cell(value=100 * run.macro)
    cells["Unparsed"] = Cell(value=100 * run.n_unparsed / run.n)
    if left := run.leaks.without:
        cells["Accuracy without leaked"] = _number(left.micro, left.interval, left.n)
    return cells | {f"Baseline: {name}": Cell(value=100 * share) for name, share in run.baselines.items()}
