"""Samples and images of a corpus on their way into an export."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gmai_vl.corpus.images import image_path, load_image
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
    return _png_of(corpus.path, name)


@lru_cache(maxsize=4)  # the samples about an image follow each other
def _png_of(corpus: Path, name: str) -> bytes:
    load_image(corpus, name)
    return image_path(corpus, name).read_bytes()
