"""`gmai data build`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gmai_vl.cli.shared import JsonFile, print_table, write_result

if TYPE_CHECKING:  # the corpus's libraries are loaded by the commands that need them
    from gmai_vl.corpus import Summary


def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Data recipe (YAML).")],
    out: Annotated[Path, typer.Option(metavar="CORPUS", help="Folder of the corpus.")],
    writer: Annotated[
        Literal["template", "llm"] | None,
        typer.Option(help="llm: the model of the recipe's `writer`. template: none. Without it, as the recipe says."),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(min=1, help="Processes; the corpus is the same for any number."),
    ] = 1,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: processes here. ray: the cluster of RAY_ADDRESS.")
    ] = "local",
    allow_licenses: Annotated[
        str | None, typer.Option(metavar="L,...", help="Refuse sources under any other licence (SPDX names).")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Build a corpus from a recipe, or go on with one that was interrupted.

    Example: gmai data build recipes/data/phantom.yaml --out runs/phantom --workers 2
    """
    from gmai_vl.corpus import build as build_corpus

    licences = None if allow_licenses is None else [name.strip() for name in allow_licenses.split(",")]
    print_summary(build_corpus(recipe, out, engine=engine, workers=workers, licences=licences, writer=writer), json)


def print_summary(summary: "Summary", json: Path | None) -> None:
    """Print what a build came to, and write it as JSON where the user asked for it."""
    counts, out = summary.counts, summary.corpus
    if summary.new_parts == summary.reused_parts == 0:
        typer.echo(f"{out}: was finished before; nothing to do")
    elif summary.reused_parts:
        typer.echo(f"{out}: went on after {summary.reused_parts} parts of an interrupted build")
    typer.echo(f"{summary.name}: {counts['samples']} samples about {counts['cases']} images")
    print_table("outcome of the items", {"items": counts["outcomes"]})
    print_table(
        "split",
        {
            "images": {side: counts["cases_by_split"].get(side, 0) for side in ("train", "val", "test")},
            "samples": counts["samples_by_split"],
        },
    )
    if summary.texts:
        print_texts(summary.texts)
    for note in summary.notes:
        typer.echo(note)
    typer.echo(f"fingerprint {summary.fingerprint}")
    result = {"corpus": str(out), "name": summary.name, "counts": counts, "fingerprint": summary.fingerprint}
    result |= {"notes": list(summary.notes)} if summary.notes else {}
    write_result(json, result | ({"texts": summary.texts} if summary.texts else {}))


def print_texts(texts: Mapping[str, Any]) -> None:
    """Print what became of a model's texts, and which checks failed."""
    counted = ("texts", "kept", "rewritten", "quarantined")
    print_table("texts of the model", {key: {name: entry[key] for name, entry in texts.items()} for key in counted})
    for key, title in (("failed_at_first", "checks failed at first"), ("failed_at_last", "checks failed at last")):
        checks = sorted({check for entry in texts.values() for check in entry[key]})
        total = {check: sum(entry[key].get(check, 0) for entry in texts.values()) for check in checks}
        print_table(title, {"texts": total})
