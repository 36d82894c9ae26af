"""`gmai data export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gmai_vl.cli.shared import CorpusFolder, JsonFile, write_result


def export(
    corpus: CorpusFolder,
    to: Annotated[
        Literal["llava", "messages", "hf", "webdataset"],
        typer.Option(
            help="llava: JSON lines as the official release. messages: JSON lines of role and parts. "
            "hf: Parquet for `datasets`. webdataset: tar shards."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder; one that was interrupted goes on.")],
    json: JsonFile = None,
) -> None:
    """Write a corpus in a form that other trainers and hubs read, with images, sides of the split, card and Croissant.

    `gmai data import DIR` takes llava and messages back as the same samples.

    Example: gmai data export runs/phantom --to llava --out exports/phantom
    """
    from gmai_vl.corpus.publishing.exporting import export as write_export

    result = write_export(corpus, to, out)
    if not result.new:
        typer.echo(f"{out}: was finished before; nothing to do")
    size = result.size / 1e6
    typer.echo(f"{out}: {result.samples:,} samples, {result.images:,} images, {result.files:,} files, {size:,.1f} MB")
    write_result(
        json,
        {
            "out": str(out),
            "to": to,
            "samples": result.samples,
            "images": result.images,
            "files": result.files,
            "bytes": result.size,
        },
    )
