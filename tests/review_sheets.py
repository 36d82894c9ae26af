"""A small corpus under review, and raters that fill in its sheets."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from corpus_recipes import write_sources

from gmai_vl.corpus import Corpus, build
from gmai_vl.corpus.review.cells import scores_text
from gmai_vl.corpus.review.draw import Draw, draw
from gmai_vl.corpus.review.rubric import AXES
from gmai_vl.corpus.review.scores import Review, read_review
from gmai_vl.corpus.review.sheets import write_sheets


def handed_out(folder: Path, *, per_source: int = 6) -> tuple[Corpus, Draw, Path, Review]:
    """Build a corpus below `folder` and write sheets of it: corpus, pairs, folder of the sheets, their record."""
    corpus = Corpus(build(write_sources(folder), folder / "corpus").corpus)
    drawn = draw(corpus, per_source, seed=0)
    write_sheets(corpus, drawn, folder / "sheets")
    return corpus, drawn, folder / "sheets", read_review(folder / "sheets")


def fill_in(sheets: Path, review: Review, rater: str, level_of: Callable[[str], int]) -> Path:
    """Write the file of a rater that gives every pair `level_of` its source on all axes."""
    path = sheets / f"scores-{rater}.csv"
    scored = {pair: (dict.fromkeys(AXES, level_of(source)), "") for pair, source in review.source_of.items()}
    path.write_text(scores_text(rater, scored), encoding="utf-8", newline="")
    return path


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
