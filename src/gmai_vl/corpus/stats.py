"""What is in a corpus: tables, plots and the card that travels with it."""

from pathlib import Path

from gmai_vl.corpus.columns import count_samples, paper_shares
from gmai_vl.corpus.plots import plot
from gmai_vl.corpus.publishing.card import corpus_card
from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.schema import sample_of
from gmai_vl.foundation import atomic_file, write_text
from gmai_vl.writing.variety import variety_of


def stats(corpus: Path) -> dict[str, dict[str, int]]:
    """Return column -> value -> number of samples, most frequent first; write stats/COLUMN.png and card.md.

    Raises UserError if no finished corpus lies at `corpus`.
    """
    opened = Corpus(corpus)
    counts = count_samples(corpus)
    for column, numbers in counts.tables.items():
        with atomic_file(corpus / "stats" / f"{column}.png") as temporary:
            plot(column, numbers, paper_shares().get(column, {}), temporary)
    write_text(corpus / "card.md", corpus_card(opened.manifest, counts))
    return {column: dict(numbers) for column, numbers in counts.tables.items()}


def variety_of_texts(corpus: Path) -> dict[str, dict[str, float]]:
    """Return "en caption caption said" and other groups -> column -> value, as `gmai_vl.writing.variety` tells it.

    Raises UserError if no finished corpus lies at `corpus`.
    """
    return variety_of(sample_of(row) for row in Corpus(corpus).rows("samples"))
