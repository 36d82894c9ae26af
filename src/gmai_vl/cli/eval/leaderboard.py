"""`gmai eval leaderboard`."""

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with runs, at any depth.")],
) -> None:
    """Gather the runs below a folder into the tables of the paper, published rows beside measured ones.

    Writes DIR/leaderboard.html, .md, .csv and .tex, and plots.

    Example: gmai eval leaderboard runs
    """
    from gmai_vl.evaluation.reports.leaderboard import write_leaderboard

    typer.echo(f"{write_leaderboard(folder)}: written. Research use only, not for diagnosis.")
