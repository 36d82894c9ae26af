"""Samples cut into shards of bounded size, the same for every run."""

from collections.abc import Callable, Iterator
from pathlib import Path

from gmai_vl.corpus.images import image_path
from gmai_vl.corpus.publishing.images import samples_of
from gmai_vl.corpus.reader import Corpus
from gmai_vl.foundation import UserError
from gmai_vl.records import Sample, Split

MOST_SAMPLES = 5_000
MOST_BYTES = 400_000_000
"""Of the images in a shard; hubs advise some hundred megabytes a file."""


def write_shards(
    corpus: Corpus, path_of: Callable[[Split, int], Path], write: Callable[[list[Sample], Path], None]
) -> int:
    """Write the samples of each side in row order, shard by shard; return the number of images in them.

    `path_of` is given the side and the number of a shard on that side; a shard that is there is kept, as it is whole.
    """
    numbers: dict[Split, int] = {}
    images = 0
    for split, samples in _shards(corpus):
        path = path_of(split, numbers.get(split, 0))
        numbers[split] = numbers.get(split, 0) + 1
        images += sum(len(sample.images) for sample in samples)
        if not path.exists():
            write(samples, path)
    return images


def _shards(corpus: Corpus) -> Iterator[tuple[Split, list[Sample]]]:
    """Yield a shard whenever one side has gathered enough: of each side there is never more than one in memory."""
    waiting: dict[Split, list[Sample]] = {}
    sizes: dict[Split, int] = {}
    for sample in samples_of(corpus):
        assert sample.split is not None, sample.id
        split = sample.split
        size = sum(_size(corpus, name) for name in sample.images)
        if waiting.get(split) and sizes[split] + size > MOST_BYTES:
            yield split, waiting.pop(split)
        if split not in waiting:
            waiting[split], sizes[split] = [], 0
        waiting[split].append(sample)
        sizes[split] += size
        if len(waiting[split]) >= MOST_SAMPLES:
            yield split, waiting.pop(split)
    yield from sorted(waiting.items())


def _size(corpus: Corpus, name: str) -> int:
    try:
        return image_path(corpus.path, name).stat().st_size
    except OSError:
        raise UserError(f"{image_path(corpus.path, name)}: is missing; run `gmai data verify {corpus.path}`") from None
