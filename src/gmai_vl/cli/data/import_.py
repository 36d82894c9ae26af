"""`gmai data import`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.data.build import print_summary
from gmai_vl.cli.shared import JsonFile


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Conversations (JSON, JSON lines, Parquet), a list of data sets, or a folder of `export`.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="CORPUS", help="Folder of the corpus.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that the paths of the pictures count from.")
    ] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the data, an SPDX name where there is one.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the corpus is the same for any number.")] = 1,
    json: JsonFile = None,
) -> None:
    """Import conversations in LLaVA's form (the official release's) or as messages; goes on if it was interrupted.

    What `gmai data export --to llava` or `--to messages` wrote comes back as the same samples. A list of data sets is
    the official release's: {NAME: {image_dir, annotations, sample_ratio, length, data_augment}}.

    Example: gmai data import annotations/percept.jsonl --images . --out runs/percept
    """
    from gmai_vl.corpus.importing import import_conversations

    print_summary(import_conversations(file, images, out, license=license, workers=workers), json)
