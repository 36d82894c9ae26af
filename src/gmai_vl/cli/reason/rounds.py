"""`gmai reason rounds`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gmai_vl.cli.shared import JsonFile, Overrides, Resume, print_table, write_result


def rounds(
    recipe: Annotated[Path, typer.Argument(help="Rounds recipe (YAML), such as recipes/reason/rounds.yaml.")],
    overrides: Overrides = [],  # noqa: B006  typer copies it
    resume: Resume = False,
    json: JsonFile = None,
) -> None:
    """Train a model in rounds: traces are made and learnt, difficulty is estimated anew, rewards teach on.

    Each round begins with the model of the last. Writes OUT/round-1 and so on, and OUT/summary.jsonl; prints a table
    and the folder of the last checkpoint.

    Example: gmai reason rounds recipes/reason/rounds.yaml --set rounds=3
    """
    from gmai_vl.reasoning.rounds import read_rounds_recipe
    from gmai_vl.reasoning.rounds import rounds as run

    lines = run(read_rounds_recipe(recipe, overrides), base=recipe.parent, resume=resume)
    print_table("round", _columns(lines))
    last = recipe.parent / lines[-1]["gives"]["path"]
    typer.echo(last.parent.resolve() / last.name)
    write_result(json, lines)


def _columns(lines: list[dict[str, Any]]) -> dict[str, dict[str, float | str]]:
    """Return name of a column -> round -> what stands there; columns that no round has anything for are left out."""
    columns: dict[str, dict[str, float | str]] = {}

    def add(name: str, line: dict[str, Any], value: float | str) -> None:
        columns.setdefault(name, {})[str(line["round"])] = value

    for line in lines:
        if told := line.get("synthesis"):
            add("with a trace", line, f"{told['yield']:.1%}")
        for name, number in line.get("difficulty", {}).items():
            add(name, line, number)
        if told := line.get("grpo"):
            for when in ("first", "last"):
                add(f"{when} reward", line, f"{told['reward'][when]:.3f}")
            for when in ("first", "last") if "accuracy" in told else ():
                add(f"{when} of val right", line, f"{told['accuracy'][when]:.1%}")
    return columns
