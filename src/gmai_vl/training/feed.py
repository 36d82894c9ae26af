"""From examples to tensors: sizes beforehand, then micro-batches that are made while the model computes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from torch import Tensor
from transformers import LlavaProcessor

from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError, progress
from gmai_vl.model import IGNORED, Batch, Encoded, collate, cut_to, encode, image_side, prepare_image
from gmai_vl.training.batches import MicroBatch
from gmai_vl.training.mixture import Example

K = TypeVar("K")
V = TypeVar("V")

LoadImage = Callable[[Corpus, str], Tensor]
"""From a corpus and the name of one of its images to what the model takes, [3, S, S]."""

KEPT_IMAGE_BYTES = 2**29
"""Prepared images are kept in memory up to this size: 2,700 of 128 x 128 pixels, 400 of 336 x 336."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large an example is for the model."""

    tokens: int
    """Text and image tokens."""

    supervised: int
    """Tokens that the loss looks at."""

    images: int

    whole: int
    """Tokens before it was cut."""


def measure(
    processor: LlavaProcessor, examples: Sequence[Example], label: str, longest: int | None = None
) -> list[Size | None]:
    """Return the size of each example, cut to `longest` tokens, showing progress under `label`.

    None for one of which no word of an answer is left. Raises UserError for one that has none to begin with.
    """
    sizes: list[Size | None] = []
    for example in progress(examples, label, len(examples)):
        whole = encode(processor, example.sample.turns)
        if all(token == IGNORED for token in whole.labels):
            raise UserError(
                f"sample {example.sample.id}: has no answer to learn; check its corpus with `gmai data verify`"
            )
        encoded = whole if longest is None else cut_to(processor, whole, longest)
        if encoded is None:
            sizes.append(None)
            continue
        supervised = sum(token != IGNORED for token in encoded.labels)
        sizes.append(Size(len(encoded.input_ids), supervised, len(encoded.images), len(whole.input_ids)))
    return sizes


def image_loader(processor: LlavaProcessor) -> LoadImage:
    """Return a function that loads and prepares images and keeps those used last."""

    @lru_cache(maxsize=KEPT_IMAGE_BYTES // (4 * 3 * image_side(processor) ** 2))
    def load_image(corpus: Corpus, sha256: str) -> Tensor:
        return prepare_image(processor, corpus.image(sha256))

    return load_image


def micro_batches(
    processor: LlavaProcessor,
    load_image: LoadImage,
    examples: Sequence[Example],
    order: Iterable[MicroBatch],
    *,
    longest: int | None = None,
    ahead: bool = False,
) -> Iterator[Batch]:
    """Yield the micro-batches of `examples`, each cut to `longest` tokens, in `order`.

    With `ahead` each is made while the one before it is in use.

    That pays where the model computes on a device of its own. On a CPU the second thread takes a quarter of the
    model's speed to save a hundredth of its time.
    """

    def make(micro: MicroBatch) -> Batch:
        chosen = [examples[index] for index in micro]
        whole = [encode(processor, example.sample.turns) for example in chosen]
        encoded = whole if longest is None else [_cut(processor, tokens, longest) for tokens in whole]
        images = [
            load_image(example.corpus, example.sample.images[shown])
            for example, tokens in zip(chosen, encoded, strict=True)
            for shown in tokens.images
        ]
        return collate(processor, encoded, images)

    return one_ahead(make, order) if ahead else map(make, order)


def _cut(processor: LlavaProcessor, encoded: Encoded, longest: int) -> Encoded:
    cut = cut_to(processor, encoded, longest)
    assert cut is not None, "`measure` tells which examples cannot be cut"
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
