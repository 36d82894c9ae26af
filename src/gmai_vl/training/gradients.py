"""What goes through the model in one step, over all ranks: losses summed, gradients of their one mean."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gmai_vl.model import Batch, answers
from gmai_vl.training.arithmetic import Load
from gmai_vl.training.batches import MicroBatch, Step
from gmai_vl.training.dealing import Slot, deal
from gmai_vl.training.fit import Sizes, loads_of
from gmai_vl.training.ranks import Ranks, total
from gmai_vl.training.sharding import Learner, Loss


def slots_of(loads: Sequence[Load], ranks: Ranks) -> list[Slot]:
    """Return what this rank does in each round of a step whose micro-batches are of these loads."""
    return deal([load.tokens for load in loads], [load.images for load in loads], ranks.world)[ranks.rank]


def turns(steps: Iterable[Step], sizes: Sizes, ranks: Ranks) -> Iterator[tuple[MicroBatch, bool]]:
    """Yield the samples of this rank, round after round, and whether an image must be shown."""
    for step in steps:
        for slot in slots_of(loads_of(step, sizes), ranks):
            yield () if slot.micro_batch is None else step[slot.micro_batch], slot.shows_image


def backward(
    learner: Learner, loss_of: Loss, slots: Sequence[Slot], batches: Iterable[Batch], supervised: int, count: int
) -> list[float]:
    """Add to the gradients those of the mean loss over the `supervised` tokens of all ranks' batches together.

    That mean is the same however a global batch is cut and dealt out. `batches` are those of `slots`. Returns the sum
    of the token losses of each of the `count` micro-batches of the step, on every rank.
    """
    sums = []
    for slot, batch in zip(slots, batches, strict=True):
        learner.reduce_gradients(slot is slots[-1])
        loss, _ = learner(loss_of, batch)
        if loss.requires_grad:  # text without images reaches no part that learns where only those of the image do
            (loss / supervised if slot.micro_batch is not None else 0 * loss).backward()
        sums.append(loss.detach())
    return _of_all_ranks(learner.ranks, slots, torch.stack(sums).tolist(), count)


@torch.no_grad()
def losses(learner: Learner, loss_of: Loss, slots: Sequence[Slot], batches: Iterable[Batch], count: int) -> list[float]:
    """Return the sum of the token losses of each of `count` micro-batches, on every rank."""
    sums = [float(learner(loss_of, batch)[0]) for _, batch in zip(slots, batches, strict=True)]
    return _of_all_ranks(learner.ranks, slots, sums, count)


def answer_losses(
    learner: Learner, step: Step, slots: Sequence[Slot], batches: Iterable[Batch], samples: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return of each of `samples` samples [N], on every rank, the sum of its token losses, and whether all are right.

    `step` holds each sample once.
    """
    loss_N, right_N = np.zeros(samples), np.zeros(samples)
    for slot, batch in zip(slots, batches, strict=True):
        loss_B, right_B = learner(answers, batch)
        if slot.micro_batch is not None:
            chosen = list(step[slot.micro_batch])  # without what keeps other ranks company
            loss_N[chosen] = loss_B[: len(chosen)].double().cpu()
            right_N[chosen] = right_B[: len(chosen)].cpu()
    return np.array(total(loss_N.tolist(), learner.ranks)), np.array(total(right_N.tolist(), learner.ranks)) > 0


def _of_all_ranks(ranks: Ranks, slots: Sequence[Slot], sums: Sequence[float], count: int) -> list[float]:
    mine = [0.0] * count
    for slot, loss in zip(slots, sums, strict=True):
        if slot.micro_batch is not None:
            mine[slot.micro_batch] = loss
    return total(mine, ranks)
