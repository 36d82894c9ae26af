"""Steps: which samples make an optimizer step, and which of them go through the model together."""

# N samples · P packs · U units of an epoch, samples or packs · S its steps

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import stable_rng
from gmai_vl.training.packing import Packs

MicroBatch = tuple[int, ...]
"""Indices of the samples that go through the model at once, end to end."""

Step = tuple[MicroBatch, ...]
"""The micro-batches of one optimizer step."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """How much makes an optimizer step."""

    amount: int

    of: Literal["units", "tokens"]
    """units: so many samples or packs; what is left over in an epoch is a smaller step. tokens: so many on average, of
    text and image, each step within one unit of it; no unit may be larger, or steps would be empty."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Steps:
    """The steps of a stage, epoch after epoch; any of them is worked out by itself, so that a run can begin anywhere.

    An epoch holds each unit, sample or pack, exactly once, in an order that depends on seed and epoch only.
    """

    tokens_U: NDArray[np.int64]
    """Of each unit."""

    size: StepSize
    seed: int

    count: int
    """Steps in all."""

    cut: Callable[[list[int]], Step]
    """Makes micro-batches of the units of one step."""

    @property
    def per_epoch(self) -> int:
        """Steps of one pass over all units."""
        whole = len(self.tokens_U) if self.size.of == "units" else int(self.tokens_U.sum())
        return -(-whole // self.size.amount)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Step:
        """Return step `number`, counted from 0."""
        if not 0 <= number < self.count:
            raise IndexError(f"step {number} of {self.count}")
        epoch, place = divmod(number, self.per_epoch)
        order_U, ends_S = _epoch(self, epoch)
        return self.cut(order_U[ends_S[place - 1] if place else 0 : ends_S[place]].tolist())

    def after(self, done: int) -> Iterator[Step]:
        """Yield the steps that follow the first `done`."""
        return (self[number] for number in range(done, self.count))


@lru_cache(maxsize=1)
def _epoch(steps: Steps, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the units in one epoch, and where in it each step ends."""
    # The stream of RandomState is frozen, that of numpy's newer generators may change with a version.
    chance = np.random.RandomState(stable_rng(steps.seed, "epoch", epoch).getrandbits(32))
    order_U = chance.permutation(len(steps.tokens_U))
    due_S = np.arange(1, steps.per_epoch + 1) * steps.size.amount
    if steps.size.of == "units":
        return order_U, np.minimum(due_S, len(order_U))
    # A unit belongs to the step that its last token falls into.
    return order_U, np.searchsorted(np.cumsum(steps.tokens_U[order_U]), due_S, side="right")


def sample_steps(
    tokens_N: NDArray[np.int64],
    *,
    size: StepSize,
    micro_batch_tokens: int,
    seed: int,
    epochs: int | None = None,
    max_steps: int | None = None,
) -> Steps:
    """Return steps of samples that chance chose, so many `epochs` or `max_steps` of them.

    Within a step samples of like length make a micro-batch of at most `micro_batch_tokens` tokens, unless a single
    sample is longer. Likeness is sought within a step only: steps of one length would be steps of one question form
    and one language, each pulling the weights its own way.
    """
    cut = partial(_micro_batches, tokens_N=tokens_N, micro_batch_tokens=micro_batch_tokens)
    return _steps(tokens_N, size, seed, epochs, max_steps, cut)


def pack_steps(
    packs: Packs,
    tokens_N: NDArray[np.int64],
    *,
    size: StepSize,
    seed: int,
    epochs: int | None = None,
    max_steps: int | None = None,
) -> Steps:
    """Return steps of packs that chance chose, each of them a micro-batch; `tokens_N` are those of the samples."""
    tokens_P = np.diff(np.cumsum(tokens_N[packs.order_N])[packs.ends_P - 1], prepend=0)
    return _steps(tokens_P, size, seed, epochs, max_steps, partial(_chosen, packs))


def _steps(
    tokens_U: NDArray[np.int64],
    size: StepSize,
    seed: int,
    epochs: int | None,
    max_steps: int | None,
    cut: Callable[[list[int]], Step],
) -> Steps:
    steps = Steps(tokens_U=tokens_U, size=size, seed=seed, count=0, cut=cut)
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
