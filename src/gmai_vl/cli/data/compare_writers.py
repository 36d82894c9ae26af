"""`gmai data compare-writers`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmai_vl.cli.shared import JsonFile, print_table, write_result

if TYPE_CHECKING:
    from gmai_vl.corpus.compare import Comparison


def compare_writers(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Data recipe whose writer is a language model.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the comparison.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Images, of all sources in turn; without it, all.")] = None,
    json: JsonFile = None,
) -> None:
    """Have a model write about the same images with and without the annotation, and check which texts hold.

    Prints a table and writes a page with the pairs side by side. Goes on where it stopped: replies are kept.

    Example: gmai data compare-writers my-recipe.yaml --out runs/compare --limit 200
    """
    from dataclasses import asdict

    from gmai_vl.corpus.compare import compare_writers as compare
    from gmai_vl.corpus.compare import write_report
    from gmai_vl.corpus.compare.report import check_out
    from gmai_vl.corpus.recipe import read_recipe
    from gmai_vl.foundation import UserError

    check_out(out)
    pairs = list(compare(recipe, limit))
    if not pairs:
        raise UserError(f"{recipe}: no case with an annotation; look at its sources")
    writer = read_recipe(recipe).writer
    assert writer.kind == "llm", "compare refuses any other"
    summary = write_report(pairs, out, model=writer.model, saw_images=writer.send_images)
    percent = {
        name: {key: round(100 * value, 1) for key, value in _shares(each).items()} for name, each in summary.items()
    }
    print_table("texts that hold, %", percent)
    for name, each in summary.items():
        checks = {side: {check: round(100 * shares[index], 1) for check, shares in each.checks.items()}
                  for index, side in enumerate(("guided", "unguided"))}  # fmt: skip
        print_table(f"{name}: texts that fail a check, %", checks)
    typer.echo(f"side by side: {out / 'index.html'}")
    write_result(json, {name: asdict(each) for name, each in summary.items()})


def _shares(each: "Comparison") -> dict[str, float]:
    return {
        "guided": each.guided,
        "guided, written again once": each.guided_again,
        "unguided": each.unguided,
        "guided - unguided": each.difference,
        "95 % interval from": each.interval[0],
        "to": each.interval[1],
    }
