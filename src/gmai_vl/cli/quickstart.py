"""`gmai quickstart`: the whole programme in minutes, from annotated images to a report."""

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    recipe: Annotated[
        Path | None, typer.Option(help="Data recipe of your own; without it phantoms and packaged images.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/quickstart"),
    seed: Annotated[
        int, typer.Option(help="Draws the phantoms, the split, the samples' order and the new weights.")
    ] = 0,
) -> None:
    """Build a corpus, train the three stages, evaluate on unseen patients, write OUT/report.html.

    Goes on where it was stopped. Example: gmai quickstart --out runs/quickstart
    """
    from gmai_vl.quickstart import run_quickstart

    report = run_quickstart(out, recipe=recipe, seed=seed)
    typer.echo(f"report: {report}")
