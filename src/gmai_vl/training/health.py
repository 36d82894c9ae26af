"""Health: what stops a stage before it does harm, losses that are not finite or leap, with the samples that did it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NoReturn

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


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a step must not be taken."""

    reason: str
    advice: str
    micro_batches: tuple[int, ...]
    """Numbers of the micro-batches of the step that are at fault, the worst first."""


def find_fault(
    losses: Sequence[float], supervised: Sequence[int], norm: float, before: Sequence[float], times: float | None
) -> Fault | None:
    """Return what is wrong with a step, None if nothing is.

    `losses` are sums in nats over the `supervised` tokens of each of its micro-batches, `norm` is that of its gradient,
    `before` are the mean losses, in nats a token, of the steps before. `times` as `is_leap` takes it.
    """
    every = range(len(losses))
    if ill := tuple(number for number in every if not math.isfinite(losses[number])):
        return Fault("the loss is not finite", "lower `learning_rate`", ill)
    if not math.isfinite(norm):
        return Fault("the gradient is not finite", "lower `learning_rate`", tuple(every))
    loss = sum(losses) / sum(supervised)
    if is_leap(loss, before, times):
        worst_first = sorted(every, key=lambda number: losses[number] / max(1, supervised[number]), reverse=True)
        reason = f"the loss leapt to {loss:.3f}, more than {times:g} times what is usual"
        return Fault(reason, "raise `stop_at_leap` and --resume", tuple(worst_first))
    return None


def is_leap(loss: float, before: Sequence[float], times: float | None) -> bool:
    """Say whether `loss` is more than so many `times` the median of those `before`; None for never. Nats a token."""
    if times is None or len(before) < REMEMBERED_LOSSES:
        return False
    usual = median(before[-REMEMBERED_LOSSES:])
    return loss > times * usual and loss > usual + LEAST_LEAP


def stop(fault: Fault, step: Step, number: int, stage: str, mixture: Mixture, log: RunLog) -> NoReturn:
    """Raise UserError for step `number` of `stage`, naming the first samples at fault; the log names all."""
    ids = mixture.ids([index for place in fault.micro_batches for index in step[place]])
    log.write("stopped", stage, number, reason=fault.reason, sample_ids=ids)
    named = ", ".join(ids[:NAMED_SAMPLES])
    more = f" and {len(ids) - NAMED_SAMPLES} more, see log.jsonl" if len(ids) > NAMED_SAMPLES else ""
    raise UserError(
        f"stage {stage}, step {number}: {fault.reason}; {fault.advice}, or look with `gmai data trace` at the samples: "
        f"{named}{more}"
    )
