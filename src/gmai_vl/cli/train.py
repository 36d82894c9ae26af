"""`gmai train`: train a model in the stages of a recipe."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="Train recipe (YAML), such as recipes/train/smol.yaml.")],
    overrides: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the recipe; may stand several times."),
    ] = [],  # noqa: B006  typer copies it
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove an earlier run from the output folder.")
    ] = False,
) -> None:
    """Train a model in the stages of a recipe; prints the folder of the last checkpoint.

    Paths in the recipe, also those given by --set, are relative to the recipe file.

    Example: gmai train recipes/train/smol.yaml --set stages.0.max_steps=20
    """
    from gmai_vl.training import read_recipe
    from gmai_vl.training import train as run

    typer.echo(run(read_recipe(recipe, overrides), base=recipe.parent, overwrite=overwrite))
