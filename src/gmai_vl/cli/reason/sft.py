"""`gmai reason sft`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.shared import Overrides, Overwrite, Resume


def sft(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML): traces, questions, model, learning rate, steps.")],
    overrides: Overrides = [],  # noqa: B006  typer copies it
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Teach a model the traces that were kept: the supervised baseline; prints the folder of the checkpoint.

    Example: gmai reason sft runs/sft.yaml --set max_steps=200
    """
    from gmai_vl.reasoning.sft import read_sft_recipe
    from gmai_vl.reasoning.sft import sft as run

    typer.echo(run(read_sft_recipe(recipe, overrides), base=recipe.parent, overwrite=overwrite, resume=resume))
