"""`gmai train`: train a model in the stages of a recipe."""

import typer

from gmai_vl.cli.shared import Overrides, Overwrite, Resume, TrainRecipeFile


def train(
    recipe: TrainRecipeFile,
    overrides: Overrides = [],  # noqa: B006  typer copies it
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Train a model in the stages of a recipe; prints the folder of the last checkpoint.

    Paths in the recipe, also those given by --set, are relative to the recipe file.

    A stopped training goes on with --resume, to the same weights as if it had never stopped. On several GPUs or
    machines start it with torchrun: torchrun --nproc-per-node 8 -m gmai_vl.cli train RECIPE.

    Example: gmai train recipes/train/smol.yaml --set stages.0.max_steps=20
    """
    from gmai_vl.training import read_recipe
    from gmai_vl.training import train as run

    typer.echo(run(read_recipe(recipe, overrides), base=recipe.parent, overwrite=overwrite, resume=resume))
