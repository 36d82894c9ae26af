"""`gmai eval build`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.shared import CorpusFolder, JsonFile, print_table, write_result


def build(
    corpus: CorpusFolder,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the benchmark; one that it holds is replaced.")],
    per_cell: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most N questions of a cell, labels and patients in turn.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="What is left to chance depends on it.")] = 0,
    blind: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answers to DIR/blind.jsonl; what they get right is dropped.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Build a benchmark in the form of GMAI-MMBench from a corpus's test split.

    To drop what can be answered without looking, ask a model the questions of DIR/blind.jsonl, then build again with
    --blind and the same options.

    Example: gmai eval build runs/phantom --out runs/bench --per-cell 30
    """
    from gmai_vl.evaluation.construction import build_benchmark

    built = build_benchmark(corpus, out, per_cell=per_cell, seed=seed, blind=blind)
    print_table("cell", {"questions": built.items_by_cell})
    for what, reasons in built.left_out.items():
        for reason, number in reasons.items():
            typer.echo(f"left out: {number:,} {what}, {reason}")
    typer.echo(f"{out}: {built.items:,} questions in {built.cells:,} cells, {built.images:,} images; see card.md")
    typer.echo("Research use only, not for diagnosis.")
    write_result(json, built.manifest)
