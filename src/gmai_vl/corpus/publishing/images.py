"""Samples and images of a corpus on their way into an export."""

from collections.abc import Iterator

from gmai_vl.corpus.images import image_path
from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.schema import sample_of
from gmai_vl.foundation import progress
from gmai_vl.records import Sample


def samples_of(corpus: Corpus) -> Iterator[Sample]:
    """Yield all samples in row order, some hundred in memory at a time, and show how far it is."""
    rows = progress(corpus.rows("samples"), "samples", corpus.manifest["counts"]["samples"])
    return map(sample_of, rows)


def png_of(corpus: Corpus, name: str) -> bytes:
    """Return the PNG file of an image. Raises UserError if it is missing or not the one that is named."""
    corpus.image(name)
    return image_path(corpus.path, name).read_bytes()
