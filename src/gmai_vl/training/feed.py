"""From the samples of a mixture to tensors: micro-batches, made while the model computes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from torch import Tensor
from transformers import LlavaProcessor

from gmai_vl.corpus import Corpus
from gmai_vl.model import Batch, Encoded, collate, cut_to, image_side, prepare_image
from gmai_vl.training.batches import MicroBatch
from gmai_vl.training.dealing import keep_company
from gmai_vl.training.fit import Fit

K = TypeVar("K")
V = TypeVar("V")

LoadImage = Callable[[Corpus, str], Tensor]
"""From a corpus and the name of one of its images to what the model takes, [3, S, S]."""

KEPT_IMAGE_BYTES = 2**29
"""Prepared images are kept in memory up to this size: 2,700 of 128 x 128 pixels, 400 of 336 x 336."""


def image_loader(processor: LlavaProcessor) -> LoadImage:
    """Return a function that loads and prepares images and keeps those used last."""

    @lru_cache(maxsize=KEPT_IMAGE_BYTES // (4 * 3 * image_side(processor) ** 2))
    def load_image(corpus: Corpus, sha256: str) -> Tensor:
        return prepare_image(processor, corpus.image(sha256))

    return load_image


def micro_batches(
    processor: LlavaProcessor,
    load_image: LoadImage,
    fit: Fit,
    order: Iterable[tuple[MicroBatch, bool]],
    *,
    ahead: bool = False,
) -> Iterator[Batch]:
    """Yield micro-batches of samples of `fit` in `order`, which also says whether each must show an image.

    With `ahead` each is made while the one before it is in use. That pays where the model computes on a device of its
    own. On a CPU the second thread takes a quarter of the model's speed to save a hundredth of its time.
    """

    def make(turn: tuple[MicroBatch, bool]) -> Batch:
        samples, shows_image = turn
        conversations: list[Encoded] = []
        images: list[Tensor] = []
        for index in samples:
            stored = fit.mixture.read(index)
            encoded = stored.encoded if fit.longest is None else _cut(processor, stored.encoded, fit.longest)
            conversations.append(encoded)
            images += [load_image(fit.mixture.corpus(index), stored.images[shown]) for shown in encoded.images]
        return collate(processor, *keep_company(processor, shows_image, conversations, images))

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
