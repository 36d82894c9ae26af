"""`gmai reason compare`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.shared import JsonFile, write_result


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="[NAME=]FOLDER...", help="Checkpoints or runs; the first is the base.")
    ],
    questions: Annotated[Path, typer.Option(metavar="DIR", help="Folder of `gmai reason questions`.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for answers, table and plots.")],
    prompt: Annotated[str, typer.Option(metavar="NAME", help="How questions are put.")] = "reason",
    max_new_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Longest answer.")] = None,
    corpora: Annotated[
        list[Path], typer.Option(metavar="DIR", help="Where training corpora lie, for the leak gate; several times.")
    ] = [],  # noqa: B006  typer copies it
    json: JsonFile = None,
) -> None:
    """Ask models the test and held-out questions, and hold each against the first, question by question.

    Writes compare.md, compare.csv, compare.json and plots; goes on where it was stopped.

    Example: gmai reason compare base=runs/smol/final rl=runs/grpo --questions runs/questions --out runs/compared
    """
    from gmai_vl.reasoning.compare import compare_models, model_of

    told = compare_models(
        [model_of(text) for text in models],
        questions,
        out,
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        corpora=corpora,
    )
    typer.echo((out / "compare.md").read_text(encoding="utf-8"))
    write_result(json, told)
