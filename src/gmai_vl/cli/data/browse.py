"""`gmai data browse`."""

import typer

from gmai_vl.cli.data.shared import CorpusFolder


def browse(corpus: CorpusFolder) -> None:
    """Write one HTML file to look through a corpus: images, boxes, texts, search and filters.

    Example: gmai data browse runs/phantom
    """
    from gmai_vl.corpus.browse import browse as write_page

    typer.echo(write_page(corpus))
