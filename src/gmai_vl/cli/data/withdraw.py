"""`gmai data withdraw`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.shared import CorpusFolder, JsonFile, write_result


def withdraw(
    corpus: CorpusFolder,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Name of a source of the corpus.")],
    search: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Where to look for what was made from it; the corpus's parent if not given."),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Remove a source from a corpus and list the corpora, checkpoints and runs that were made from it.

    Those are listed, not changed: what a model has learnt cannot be taken out of it.

    Example: gmai data withdraw runs/mixed isic2017 --search runs
    """
    from gmai_vl.corpus.withdraw import withdraw as take_out

    result = take_out(corpus, source, search or [corpus.resolve().parent])
    typer.echo(f"{corpus}: {source} is withdrawn: {result.cases} images, {result.samples} samples")
    typer.echo(f"fingerprint {result.fingerprint} (before: {result.fingerprint_before})")
    for descendant in result.descendants:
        typer.echo(f"{descendant.kind} {descendant.path}: {descendant.why}")
    if not result.descendants:
        typer.echo("nothing else that was made from it was found")
    write_result(
        json,
        {
            "corpus": str(corpus),
            "source": source,
            "cases": result.cases,
            "samples": result.samples,
            "fingerprint": result.fingerprint,
            "fingerprint_before": result.fingerprint_before,
            "descendants": [
                {"kind": each.kind, "path": str(each.path), "why": each.why} for each in result.descendants
            ],
        },
    )
