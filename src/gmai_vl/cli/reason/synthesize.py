"""`gmai reason synthesize`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gmai_vl.cli.shared import JsonFile, Overrides, print_table, write_result


def synthesize(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Synthesis recipe (YAML).")],
    set_: Overrides = [],  # noqa: B006  typer copies it
    rejudge: Annotated[bool, typer.Option("--rejudge", help="Judge the answers that are there; ask nobody.")] = False,
    json: JsonFile = None,
) -> None:
    """Have a teacher think about questions several times, and keep the thoughts that hold: rejection sampling.

    Kept are answers that are right, in their form, not contradicted by the annotation, and free of the faults that
    docs/reasoning.md lists. Goes on where it was stopped; what was answered is not asked again.

    Example: gmai reason synthesize synthesis.yaml --set tries=8
    """
    from gmai_vl.reasoning.synthesis import read_synthesis_recipe
    from gmai_vl.reasoning.synthesis import synthesize as run

    done = run(read_synthesis_recipe(recipe, set_), base=recipe.parent, ask=not rejudge)
    print_report(done.out, done.report)
    write_result(json, done.report)


def print_report(out: Path, report: dict[str, Any]) -> None:
    """Print what a rejection sampling came to."""
    from gmai_vl.foundation import visible

    for group, values in report["by"].items():
        names = {
            "all": "questions",
            "with_trace": "with a trace",
            "answered": "answers",
            "passed": "pass",
            "kept": "kept",
        }
        print_table(
            group, {label: {value: counts[name] for value, counts in values.items()} for name, label in names.items()}
        )
    counts = {"answered": "answers", "passed": "pass", "kept": "kept"}
    tries = report["by_try"]
    print_table("try", {label: {number: tries[number][name] for number in tries} for name, label in counts.items()})
    only = report["only_reason"]
    print_table(
        "rejected for",
        {"answers": report["reasons"], "that alone": {name: only.get(name, 0) for name in report["reasons"]}},
    )
    told, unknown = report["tries"], report["facts"]["unknown"]
    for why, number in unknown.items():
        typer.echo(visible(f"facts not checked: {number:,} thoughts, {why}"))
    for why, number in report["refused"].items():
        typer.echo(visible(f"refused, to be asked again by the next run: {number:,}, {why}"))
    if told["not_asked"]:
        typer.echo(f"not asked: {told['not_asked']:,} of {told['asked_for']:,} tries")
    cost = "" if report["usd"] is None else f", {report['usd']:.2f} USD"
    tokens = report["tokens"]
    typer.echo(
        f"{tokens['prompt']:,} tokens of prompts, {tokens['answer']:,} of answers{cost}, {report['seconds']:,.0f} s"
    )
    questions = report["questions"]
    typer.echo(
        f"{out}: {told['kept']:,} traces of {told['answered']:,} answers, "
        f"about {questions['with_trace']:,} of {questions['all']:,} questions"
    )
    typer.echo("Research use only, not for diagnosis.")
