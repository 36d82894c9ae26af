"""`gmai data verify`."""

import typer

from gmai_vl.cli.shared import CorpusFolder, JsonFile, write_result


def verify(corpus: CorpusFolder, json: JsonFile = None) -> None:
    """Hold a corpus against everything it promises; exit code 1 and a list where something is broken.

    Example: gmai data verify runs/phantom
    """
    from gmai_vl.corpus import verify as verify_corpus

    findings = verify_corpus(corpus)
    for finding in findings:
        typer.echo(finding)
    write_result(json, {"corpus": str(corpus), "findings": findings})
    if findings:
        typer.echo(f"{corpus}: {len(findings)} findings", err=True)
        raise typer.Exit(1)
    typer.echo(f"{corpus}: every invariant holds")
