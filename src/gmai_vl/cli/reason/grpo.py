"""`gmai reason grpo`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.shared import Overrides, Overwrite, Resume


def grpo(
    recipe: Annotated[Path, typer.Argument(help="GRPO recipe (YAML), such as recipes/reason/grpo.yaml.")],
    overrides: Overrides = [],  # noqa: B006  typer copies it
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Reinforce a model on questions with one right answer; prints the folder of the checkpoint.

    Paths in the recipe are relative to the recipe file. OUT/log.jsonl has a line for each step.

    Example: gmai reason grpo recipes/reason/grpo.yaml --set max_steps=50
    """
    from gmai_vl.reasoning.grpo import grpo as run
    from gmai_vl.reasoning.grpo import read_grpo_recipe

    typer.echo(run(read_grpo_recipe(recipe, overrides), base=recipe.parent, overwrite=overwrite, resume=resume))
