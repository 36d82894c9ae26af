"""Steps: which samples make an optimizer step, and which of them go through the model together."""

# N samples

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import stable_rng
from gmai_vl.training.packing import Packs

MicroBatch = tuple[int, ...]
"""Indices of the samples that go through the model at once, end to end."""

Step = tuple[MicroBatch, ...]
"""The micro-batches of one optimizer step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """The steps of a stage, epoch after epoch; any of them is worked out by itself, so that a run can begin anywhere.

    An epoch holds each unit, sample or pack, exactly once, in an order that depends on seed and epoch only. What is
    left over when the units do not divide by `global_batch` is a smaller step at the end.
    """

    units: int
    """Samples or packs of an epoch."""

    global_batch: int
    """Units of a step."""

    seed: int

    count: int
    """Steps in all."""

    cut: Callable[[list[int]], Step]
    """Makes micro-batches of the units of one step."""

    @property
    def per_epoch(self) -> int:
        """Steps of one pass over all units."""
        return -(-self.units // self.global_batch)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Step:
        """Return step `number`, counted from 0."""
        if not 0 <= number < self.count:
            raise IndexError(f"step {number} of {self.count}")
        epoch, place = divmod(number, self.per_epoch)
        start = place * self.global_batch
        return self.cut(_order(self.units, self.seed, epoch)[start : start + self.global_batch].tolist())

    def after(self, done: int) -> Iterator[Step]:
        """Yield the steps that follow the first `done`."""
        return (self[number] for number in range(done, self.count))


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    # The stream of RandomState is frozen, that of numpy's newer generators may change with a version.
    return np.random.RandomState(stable_rng(seed, "epoch", epoch).getrandbits(32)).permutation(count)


def sample_steps(
    tokens_N: NDArray[np.int64],
    *,
    global_batch: int,
    micro_batch_tokens: int,
    seed: int,
    epochs: int | None = None,
    max_steps: int | None = None,
) -> Steps:
    """Return steps of `global_batch` samples that chance chose, so many `epochs` or `max_steps` of them.

    Within a step samples of like length make a micro-batch of at most `micro_batch_tokens` tokens, unless a single
    sample is longer. Likeness is sought within a step only: steps of one length would be steps of one question form
    and one language, each pulling the weights its own way.
    """
    cut = partial(_micro_batches, tokens_N=tokens_N, micro_batch_tokens=micro_batch_tokens)
    return _steps(len(tokens_N), global_batch, seed, epochs, max_steps, cut)


def pack_steps(
    packs: Packs, *, global_batch: int, seed: int, epochs: int | None = None, max_steps: int | None = None
) -> Steps:
    """Return steps of `global_batch` packs that chance chose, each of them a micro-batch."""
    return _steps(len(packs), global_batch, seed, epochs, max_steps, partial(_chosen, packs))


def _steps(
    units: int,
    global_batch: int,
    seed: int,
    epochs: int | None,
    max_steps: int | None,
    cut: Callable[[list[int]], Step],
) -> Steps:
    steps = Steps(units=units, global_batch=global_batch, seed=seed, count=0, cut=cut)
    return replace(steps, count=max_steps or (epochs or 0) * steps.per_epoch)


def _chosen(packs: Packs, numbers: list[int]) -> Step:
    return tuple(packs[number] for number in numbers)


def _micro_batches(step: list[int], tokens_N: NDArray[np.int64], micro_batch_tokens: int) -> Step:
    """Cut the samples of a step, longest first, into as few micro-batches as their order allows."""
    micro_batches: list[MicroBatch] = []
    room = 0
    for tokens, index in sorted(zip(tokens_N[step].tolist(), step, strict=True), key=lambda pair: -pair[0]):
        if tokens <= room:
            micro_batches[-1] += (index,)
        else:
            micro_batches.append((index,))
            room = micro_batch_tokens
        room -= tokens
    return tuple(micro_batches)
