"""Batches: which samples make an optimizer step, and which of them go through the model together."""

from collections.abc import Sequence

from gmai_vl.foundation import stable_rng

MicroBatch = tuple[int, ...]
"""Indices of the samples that are padded to one length and go through the model at once."""

Step = tuple[MicroBatch, ...]
"""The micro-batches of one optimizer step."""

POOL = 512
"""Samples among which neighbours in length are sought, where a step is smaller."""


def steps_in_epoch(count: int, global_batch: int) -> int:
    """Return the optimizer steps of one pass over `count` samples; the last may be smaller than the others."""
    return -(-count // global_batch)


def epoch_steps(
    lengths: Sequence[int], *, global_batch: int, micro_batch_tokens: int, seed: int, epoch: int
) -> list[Step]:
    """Cut one pass over all samples into steps of `global_batch` samples of similar length, each sample exactly once.

    `lengths` are tokens per sample. The order depends on `seed` and `epoch` only. A micro-batch holds at most
    `micro_batch_tokens` tokens, padding included, unless a single sample is longer. What is left over when the samples
    do not divide by `global_batch` is one smaller step, of samples that chance chose.
    """
    rng = stable_rng(seed, "epoch", epoch)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    whole = len(order) // global_batch * global_batch
    # At least four pools per epoch keep chance in the steps' make-up where samples are few.
    steps_per_pool = max(1, min(POOL // global_batch, len(order) // (4 * global_batch)))
    pool_size = steps_per_pool * global_batch
    chosen = []
    for start in range(0, whole, pool_size):
        pool = sorted(order[start : min(start + pool_size, whole)], key=lengths.__getitem__, reverse=True)
        chosen += [pool[i : i + global_batch] for i in range(0, len(pool), global_batch)]
    if whole < len(order):
        chosen.append(sorted(order[whole:], key=lengths.__getitem__, reverse=True))
    rng.shuffle(chosen)
    return [_micro_batches(step, lengths, micro_batch_tokens) for step in chosen]


def _micro_batches(step: list[int], lengths: Sequence[int], micro_batch_tokens: int) -> Step:
    """Cut the samples of a step, longest first, so that each micro-batch is as large as its first sample allows."""
    micro_batches = []
    while step:
        size = max(1, micro_batch_tokens // lengths[step[0]])
        micro_batches.append(tuple(step[:size]))
        step = step[size:]
    return tuple(micro_batches)
