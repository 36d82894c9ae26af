"""From the samples of a mixture to tensors: sizes beforehand, micro-batches while the model computes."""

# N samples

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlavaProcessor

from gmai_vl.corpus import Corpus
from gmai_vl.model import IGNORED, Batch, Encoded, collate, cut_to, image_side, prepare_image
from gmai_vl.training.batches import MicroBatch
from gmai_vl.training.mixture import Mixture
from gmai_vl.training.packing import PackLimits

K = TypeVar("K")
V = TypeVar("V")

LoadImage = Callable[[Corpus, str], Tensor]
"""From a corpus and the name of one of its images to what the model takes, [3, S, S]."""

KEPT_IMAGE_BYTES = 2**29
"""Prepared images are kept in memory up to this size: 2,700 of 128 x 128 pixels, 400 of 336 x 336."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the samples of a mixture are for the model."""

    tokens_N: NDArray[np.int64]
    """Text and image tokens."""

    supervised_N: NDArray[np.int64]
    """Tokens that the loss looks at."""

    images_N: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "Sizes":
        return Sizes(self.tokens_N[chosen], self.supervised_N[chosen], self.images_N[chosen])


@dataclass(frozen=True, slots=True)
class Fit:
    """A mixture as it goes into packs."""

    mixture: Mixture
    sizes: Sizes
    left_out: Mixture
    """Samples that go into no pack."""

    cut: Mixture
    """Samples of `mixture` that lose the end of an answer."""


def sizes_of(mixture: Mixture) -> Sizes:
    """Return the sizes of whole samples; the token store knows them."""
    return Sizes(*(mixture.numbers(column) for column in ("tokens", "supervised", "images")))


def fitted(processor: LlavaProcessor, mixture: Mixture, limits: PackLimits) -> Fit:
    """Return the samples that go into packs within `limits`, with the sizes that they have then.

    Of longer samples the last answer is cut or, as `limits` says, they are left out; so are those of which no word of
    an answer would be left, and those of too many images.
    """
    sizes = sizes_of(mixture)
    is_long_N = sizes.tokens_N > limits.length
    fits_N = ~is_long_N
    if limits.too_long == "cut":
        for index in np.flatnonzero(is_long_N).tolist():
            cut = cut_to(processor, mixture.read(index).encoded, limits.length)
            if cut is not None:
                fits_N[index] = True
                sizes.tokens_N[index] = len(cut.input_ids)
                sizes.supervised_N[index] = sum(label != IGNORED for label in cut.labels)
                sizes.images_N[index] = len(cut.images)
    fits_N &= sizes.images_N <= limits.most_images
    return Fit(mixture[fits_N], sizes[fits_N], mixture[~fits_N], mixture[fits_N & is_long_N])


def image_loader(processor: LlavaProcessor) -> LoadImage:
    """Return a function that loads and prepares images and keeps those used last."""

    @lru_cache(maxsize=KEPT_IMAGE_BYTES // (4 * 3 * image_side(processor) ** 2))
    def load_image(corpus: Corpus, sha256: str) -> Tensor:
        return prepare_image(processor, corpus.image(sha256))

    return load_image


def micro_batches(
    processor: LlavaProcessor,
    load_image: LoadImage,
    mixture: Mixture,
    order: Iterable[MicroBatch],
    *,
    longest: int | None = None,
    ahead: bool = False,
) -> Iterator[Batch]:
    """Yield the micro-batches of samples of `mixture`, each cut to `longest` tokens, in `order`.

    With `ahead` each is made while the one before it is in use.

    That pays where the model computes on a device of its own. On a CPU the second thread takes a quarter of the
    model's speed to save a hundredth of its time.
    """

    def make(micro: MicroBatch) -> Batch:
        conversations = []
        images = []
        for index in micro:
            stored = mixture.read(index)
            encoded = stored.encoded if longest is None else _cut(processor, stored.encoded, longest)
            conversations.append(encoded)
            images += [load_image(mixture.corpus(index), stored.images[shown]) for shown in encoded.images]
        return collate(processor, conversations, images)

    return one_ahead(make, order) if ahead else map(make, order)


def _cut(processor: LlavaProcessor, encoded: Encoded, longest: int) -> Encoded:
    cut = cut_to(processor, encoded, longest)
    assert cut is not None, "`fitted` tells which samples cannot be cut"
    return cut


def one_ahead(make: Callable[[K], V], keys: Iterable[K]) -> Iterator[V]:
    """Yield `make(key)` for each key in order, made in a thread of its own and one key ahead of the reader."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        ready: Future[V] | None = None
        for key in keys:
            following = thread.submit(make, key)
            if ready is not None:
                yield ready.result()
            ready = following
        if ready is not None:
            yield ready.result()
