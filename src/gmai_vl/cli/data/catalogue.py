"""`gmai data catalogue`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from gmai_vl.cli.data.shared import JsonFile, write_result


def catalogue(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORDS]", help="Words of name, anatomy or labels; or a name.")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="CT, MR, X-Ray, ...")] = None,
    task: Annotated[str | None, typer.Option(help="cls, seg, det or other.")] = None,
    department: Annotated[str | None, typer.Option(help="Part of the department's name.")] = None,
    anatomy: Annotated[str | None, typer.Option(help="Part of what the images show.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Part of the licence as stated.")
    ] = None,
    access: Annotated[str | None, typer.Option(help="open, registration, kaggle or request.")] = None,
    used: Annotated[str | None, typer.Option(help="yes, likely, no: evidence of use in GMAI-VL-5.5M.")] = None,
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Print a recipe to begin with for the named dataset.")
    ] = False,
    json: JsonFile = None,
) -> None:
    """Search the public datasets that are known; with --recipe, print a recipe to begin with for one of them.

    Licences and numbers are as others state them: read the licence before you use a set. `recipe` names the recipe in
    recipes/data/ that ran on real files; the others have not been tried.

    Example: gmai data catalogue polyp --access open; gmai data catalogue "DRIVE" --recipe > drive.yaml
    """
    from gmai_vl.foundation import UserError
    from gmai_vl.sources.catalogue import dataset_called, search, starting_recipe

    text = " ".join(words or ())
    if recipe:
        if not text:
            raise UserError("--recipe: name a dataset, as `gmai data catalogue` prints it")
        typer.echo(starting_recipe(dataset_called(text)), nl=False)
        return
    found = search(
        text,
        modalities=modality,
        tasks=task,
        department=department,
        anatomy=anatomy,
        licence=licence,
        access=access,
        used=used,
    )
    rows = [
        (
            dataset.name,
            ", ".join(dataset.modalities),
            "+".join(dataset.tasks),
            " ".join(dataset.images.split())[:24],
            dataset.licence[:28],
            dataset.access,
            dataset.used,
            dataset.verified,
        )
        for dataset in found
    ]
    _print(("name", "modality", "task", "images", "licence", "access", "used", "recipe"), rows)
    write_result(json, [asdict(dataset) for dataset in found])


def _print(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table on a terminal, and lines with tabs elsewhere."""
    if not sys.stdout.isatty():
        for row in (head, *rows):
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
    typer.echo(f"{len(rows)} datasets")
