"""Health: what stops a stage before it does harm, losses that are not finite or leap, with the samples that did it."""

import math
import resource
import sys
from collections.abc import Sequence
from statistics import median

import torch

from gmai_vl.foundation import UserError
from gmai_vl.training.batches import Step
from gmai_vl.training.mixture import Mixture
from gmai_vl.training.telemetry import RunLog

NAMED_SAMPLES = 8
"""So many samples are named in an error line; the log has all."""

REMEMBERED_LOSSES = 32
"""A loss is held against the median of so many before it; until there are so many, none is a leap."""

LEAST_LEAP = 1.0
"""Nats a token. Where losses are near 0, many times as much is still nothing."""


def is_leap(loss: float, before: Sequence[float], times: float | None) -> bool:
    """Say whether `loss` is more than so many `times` the median of those `before`; None for never."""
    if times is None or len(before) < REMEMBERED_LOSSES:
        return False
    usual = median(before[-REMEMBERED_LOSSES:])
    return loss > times * usual and loss > usual + LEAST_LEAP


def stop_if_ill(
    step: Step,
    sums: Sequence[float],
    supervised: Sequence[int],
    norm: float,
    before: Sequence[float],
    times: float | None,
    *,
    mixture: Mixture,
    stage: str,
    number: int,
    log: RunLog,
) -> None:
    """Raise UserError, naming samples, if the step must not be taken.

    `sums` and `supervised` are losses and supervised tokens of the micro-batches of step `number`, `norm` that of its
    gradient, and `before` the mean losses of the steps before. The log names all samples of the micro-batches that are
    ill, with the losses of all where the loss has leapt.
    """
    loss = sum(sums) / sum(supervised)
    ill = [micro for micro, total in zip(step, sums, strict=True) if not math.isfinite(total)]
    if ill:
        reason, advice = "the loss is not finite", "lower `learning_rate`"
    elif not math.isfinite(norm):
        reason, advice = "the gradient is not finite", "lower `learning_rate`"
    elif is_leap(loss, before, times):
        reason = f"the loss leapt to {loss:.3f}, {times:g} times what is usual and more"
        advice = "raise `stop_at_leap` and --resume"
        means = {micro: total / count for micro, total, count in zip(step, sums, supervised, strict=True)}
        ill = sorted(step, key=means.__getitem__, reverse=True)
    else:
        return
    ids = mixture.ids([index for micro in ill or step for index in micro])
    log.write("stopped", stage, number, reason=reason, sample_ids=ids)
    named = ", ".join(ids[:NAMED_SAMPLES])
    more = f" and {len(ids) - NAMED_SAMPLES} more, see log.jsonl" if len(ids) > NAMED_SAMPLES else ""
    raise UserError(
        f"stage {stage}, step {number}: {reason}; {advice}, or look with `gmai data trace` at the samples: "
        f"{named}{more}"
    )


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that were held so far: on a GPU by tensors, elsewhere by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
