"""What the commands of `gmai eval` share: arguments, and the table of a score."""

from pathlib import Path
from typing import Annotated, Any

import typer

Benchmark = Annotated[str, typer.Option(metavar="NAME", help="Benchmark; `gmai eval list` shows them.")]
Data = Annotated[Path, typer.Option(metavar="DIR", help="Data of the benchmark as downloaded; for `corpus` a corpus.")]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only N questions: patients in turn, mix of forms kept.")
]
Prompt = Annotated[str | None, typer.Option(metavar="NAME", help="How questions are put; `gmai eval list` shows them.")]

MOST_GROUPS = 40
"""Rows of a table on a terminal; all are in the JSON and on the page."""


def print_score(result: dict[str, Any]) -> None:
    """Print a score as a table, with what must be known to read it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gmai_vl.foundation import visible

    table = Table("group", box=None, pad_edge=False, header_style="bold")
    for column in ("accuracy %", "95 % interval", "n", "patients", "unparsed"):
        table.add_column(column, justify="right")
    overall = {**result, "accuracy": result["micro"]}
    rows = [("all", overall)] + [
        (f"{name}: {value}", row) for name, values in result["groups"].items() for value, row in values.items()
    ]
    for label, row in rows[:MOST_GROUPS]:
        low, high = row["interval"]
        numbers = f"{row['accuracy']:.1%}"[:-1], f"{100 * low:.1f} - {100 * high:.1f}"
        table.add_row(Text(visible(label)), *numbers, str(row["n"]), str(row["n_patients"]), str(row["n_unparsed"]))
    Console().print(table)
    if len(rows) > MOST_GROUPS:
        typer.echo(f"... and {len(rows) - MOST_GROUPS} more groups; --json has them all")
    for line in _remarks(result):
        typer.echo(visible(line))


def _remarks(result: dict[str, Any]) -> list[str]:
    lines = [f"macro over {result['macro_over']}s: {100 * result['macro']:.1f} %; intervals are clustered by patient"]
    lines.append(f"protocol {result['protocol']}, data: {result['variant']}")
    if result.get("n_guessed"):
        lines.append(f"{result['n_guessed']} answers were drawn or forced by the protocol where it could read none")
    if cut_off := result.get("n_cut_off"):
        lines.append(f"{cut_off} responses were cut off at their longest length; --max-new-tokens gives them more room")
    if "credit" in result:
        low, high = result["credit"]["interval"]
        lines.append(f"mean credit {100 * result['credit']['mean']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
    if fits := result.get("calibration"):
        error = 100 * fits["expected_calibration_error"]
        lines.append(f"calibration: expected error {error:.1f} points, Brier's score {fits['brier']:.3f}")
    if judge := result.get("judge"):
        lines.append(_judged(judge))
    for name, share in result.get("baselines", {}).items():
        lines.append(f"{name} baseline: {100 * share:.1f} %")
    lines += [f"note: {note}" for note in result.get("notes", ())]
    if leaks := result.get("leaks"):
        status = f"{leaks['n']} leaked" if leaks["status"] == "leaked" else leaks["status"]
        lines.append(f"leaks: {status} ({leaks['why']})")
        if rest := leaks["without"]:
            low, high = rest["interval"]
            lines.append(
                f"without them: {100 * rest['micro']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {rest['n']}"
            )
    return [*lines, "Research use only, not for diagnosis."]


def _judged(judge: dict[str, Any]) -> str:
    name = f"LLM judge {judge['model']} (prompt {judge['version']})"
    if not judge["n"]:
        return f"{name}: no questions for it"
    (low, high), agreed = judge["interval"], judge["agreement"]
    line = f"{name}: {100 * judge['share']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {judge['n']}"
    if judge["n_failed"]:
        line += f", {judge['n_failed']} without a verdict counted as wrong"
    if agreed["n"]:
        line += f"; agrees with the protocol on {100 * agreed['share']:.1f} % of {agreed['n']}"
    return line + ("" if agreed["kappa"] is None else f", kappa {agreed['kappa']:.2f}")
