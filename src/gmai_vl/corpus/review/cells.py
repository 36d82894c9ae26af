"""Tables that go out to people and come back: what a spreadsheet may do to them, going out and coming in."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence

from gmai_vl.corpus.review.rubric import AXES, Scores

SCORE_COLUMNS = ("pair", *AXES, "comment", "rater")
"""What a table of scores needs; sheets have more columns, which are not read back."""

BOM = "\ufeff"
"""At the head of a file it tells Excel that this is UTF-8."""

# A spreadsheet takes these for the beginning of a formula, full-width ones too where East Asian input is set up.
# One that already has an apostrophe before it gets another, so that taking one off gives every text back.
_FORMULA = re.compile(r"^'*[\s\ufeff\u200b]*[=+\-@＝＋－＠\t\r]")
_DEFUSED = re.compile(r"^'(?='*[\s\ufeff\u200b]*[=+\-@＝＋－＠\t\r])")


def defused(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def as_written(cell: str) -> str:
    """Take off the apostrophe that `defused` put before a text."""
    return _DEFUSED.sub("", cell)


def table_text(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a CSV file as Excel reads it best: with a mark of its encoding and CRLF, every cell defused."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(head)
    writer.writerows([defused(cell) for cell in row] for row in rows)
    return BOM + stream.getvalue()


def scores_text(rater: str, scored: Mapping[str, tuple[Scores, str]]) -> str:
    """Return the scores of one rater as a file: pair -> (scores, comment); no scores leave the cells empty."""
    rows = (
        [pair, *(str(scores.get(axis, "")) for axis in AXES), comment, rater]
        for pair, (scores, comment) in scored.items()
    )
    return table_text(SCORE_COLUMNS, rows)
