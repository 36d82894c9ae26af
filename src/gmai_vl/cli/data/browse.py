"""`gmai data browse`."""

from typing import Annotated

import typer

from gmai_vl.cli.shared import CorpusFolder


def browse(
    corpus: CorpusFolder,
    cases: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many, spread over the sources.")] = 500,
) -> None:
    """Write one HTML file to look through a corpus: images, boxes, outlines, texts, facts, and what was left out.

    Example: gmai data browse runs/phantom
    """
    from gmai_vl.corpus.browse import browse as write_page

    typer.echo(write_page(corpus, most_cases=cases))
