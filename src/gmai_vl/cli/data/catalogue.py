"""`gmai data catalogue`."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gmai_vl.cli.shared import JsonFile, write_result

if TYPE_CHECKING:
    from gmai_vl.sources.catalogue import Dataset

_COLUMNS = ("name", "modality", "task", "images", "licence", "access", "used", "recipe")
_WIDEST = (40, 16, 11, 20, 26, 12, 6, 15)
"""Letters; what is longer goes on in the next line, for a name that is cut is of no use to `--recipe`."""


def catalogue(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]...", help="All must stand in name, aliases, labels or anatomy. Or one NAME."),
    ] = None,
    recipe: Annotated[bool, typer.Option("--recipe", help="Print a starting recipe for the set called NAME.")] = False,
    modality: Annotated[str | None, typer.Option(help="Such as CT, MR, X-Ray, Fundus Photography, Other.")] = None,
    task: Annotated[Literal["cls", "det", "seg", "other"] | None, typer.Option(help="What is annotated.")] = None,
    department: Annotated[str | None, typer.Option(help="Such as Ophthalmology; a part of it will do.")] = None,
    anatomy: Annotated[str | None, typer.Option(help="Such as lung.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Such as CC-BY, CC0, MIT, unknown.")
    ] = None,
    access: Annotated[
        Literal["open", "registration", "kaggle", "request", "unknown"] | None, typer.Option(help="How to get it.")
    ] = None,
    used: Annotated[
        Literal["yes", "likely", "no"] | None, typer.Option(help="Whether GMAI-VL-5.5M was made from it.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Search the known public data sets, or print a starting recipe for one.

    A table on a terminal; elsewhere a line of column names and a line a set, with tabs. Numbers and licences are as
    others state them. `used`: by GMAI-VL-5.5M. `recipe`: the one in recipes/data that ran on real files of the set.

    Example: gmai data catalogue polyp --licence CC-BY

    Example: gmai data catalogue BUSI --recipe > busi.yaml
    """
    from dataclasses import asdict

    from gmai_vl.foundation import UserError, say
    from gmai_vl.sources.catalogue import datasets, find, search
    from gmai_vl.sources.catalogue_recipe import starting_recipe

    if recipe:
        if not words or any((modality, task, department, anatomy, licence, access, used)):
            raise UserError("--recipe: takes one NAME and no filters; `gmai data catalogue WORDS` shows the names")
        dataset = find(" ".join(words))
        text = starting_recipe(dataset)
        typer.echo(text, nl=False)
        write_result(json, asdict(dataset) | {"recipe": text})
        return
    found = search(
        words or (),
        modality=modality,
        task=task,
        department=department,
        anatomy=anatomy,
        licence=licence,
        access=access,
        used=used,
    )
    if sys.stdout.isatty():
        _print_table(found)
    else:
        for row in (_COLUMNS, *map(_row, found)):
            typer.echo("\t".join(row))
    say(f"{len(found)} of {len(datasets())} data sets" if found else "no data set fits; leave out a word or a filter")
    write_result(json, [asdict(dataset) | {"licences": dataset.licences} for dataset in found])


def _row(dataset: "Dataset") -> tuple[str, ...]:
    return (
        dataset.name,
        "|".join(dataset.modalities),
        "|".join(dataset.tasks),
        dataset.images,
        " | ".join(dataset.licences),
        dataset.access,
        dataset.used,
        dataset.verified,
    )


def _print_table(found: list["Dataset"]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, widest in zip(_COLUMNS, _WIDEST, strict=True):
        table.add_column(column, max_width=widest, overflow="fold")
    for dataset in found:
        style = "dim" if dataset.licences == ("unknown",) else ""
        cells = _row(dataset)
        table.add_row(*(Text(cell, style=style if _COLUMNS[at] == "licence" else "") for at, cell in enumerate(cells)))
    Console().print(table)
