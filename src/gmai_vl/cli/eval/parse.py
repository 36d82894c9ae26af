"""`gmai eval parse`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.shared import JsonFile, write_result


def parse(
    source: Annotated[
        Path,
        typer.Option("--input", metavar="FILE", help="JSON lines with id, kind, lang, question, options, response."),
    ],
    target: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="JSON lines with id, choice, text, unparsed, correct.")
    ],
    protocol: Annotated[
        str, typer.Option(metavar="P", help="How answers are read; others than `default` need an answer in each case.")
    ] = "default",
    json: JsonFile = None,
) -> None:
    """Read the answers out of responses, by the same rules as scoring.

    Example: gmai eval parse --input cases.jsonl --output answers.jsonl
    """
    from gmai_vl.evaluation.predictions import parse_file

    counts = parse_file(source, target, protocol)
    typer.echo(f"{target}: {counts['cases']} cases, {counts['unparsed']} unparsed")
    write_result(json, counts)
