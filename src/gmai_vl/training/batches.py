"""Batches: which samples make an optimizer step, and which of them go through the model together."""

from collections.abc import Sequence

from gmai_vl.foundation import stable_shuffle
from gmai_vl.training.packing import Packs

MicroBatch = tuple[int, ...]
"""Indices of the samples that go through the model at once, end to end."""

Step = tuple[MicroBatch, ...]
"""The micro-batches of one optimizer step."""


def steps_in_epoch(count: int, global_batch: int) -> int:
    """Return the optimizer steps of one pass over `count` samples or packs; the last may be smaller than the others."""
    return -(-count // global_batch)


def epoch_steps(
    lengths: Sequence[int], *, global_batch: int, micro_batch_tokens: int, seed: int, epoch: int
) -> list[Step]:
    """Cut one pass over all samples into steps of `global_batch` samples that chance chose, each sample exactly once.

    `lengths` are tokens per sample. The order depends on `seed` and `epoch` only. Within a step samples of like length
    make a micro-batch of at most `micro_batch_tokens` tokens, unless a single sample is longer. Likeness is sought
    within a step only: steps of one length would be steps of one question form and one language, each pulling the
    weights its own way. What is left over when the samples do not divide by `global_batch` is a smaller step at the
    end.
    """
    chosen = _by_chance(len(lengths), global_batch, seed, epoch)
    return [_micro_batches(step, lengths, micro_batch_tokens) for step in chosen]


def packed_epoch_steps(packs: Packs, *, global_batch: int, seed: int, epoch: int) -> list[Step]:
    """Cut one pass over all packs into steps of `global_batch` packs that chance chose, each pack exactly once.

    The order depends on `seed` and `epoch` only. What is left over is a smaller step at the end.
    """
    chosen = _by_chance(len(packs), global_batch, seed, epoch)
    return [tuple(packs[number] for number in step) for step in chosen]


def _by_chance(count: int, global_batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Deal `count` numbers out into groups of `global_batch`, the last of what is left."""
    order = stable_shuffle(range(count), seed, "epoch", epoch)
    return [order[start : start + global_batch] for start in range(0, count, global_batch)]


def _micro_batches(step: list[int], lengths: Sequence[int], micro_batch_tokens: int) -> Step:
    """Cut the samples of a step, longest first, into as few micro-batches as their order allows."""
    micro_batches: list[MicroBatch] = []
    room = 0
    for index in sorted(step, key=lengths.__getitem__, reverse=True):
        if lengths[index] <= room:
            micro_batches[-1] += (index,)
        else:
            micro_batches.append((index,))
            room = micro_batch_tokens
        room -= lengths[index]
    return tuple(micro_batches)
