"""What a model makes of samples that it does not learn from at the moment: loss, right answers, confidence."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import LlavaProcessor

from gmai_vl.foundation import UserError
from gmai_vl.model import Batch, loss_sum
from gmai_vl.training.batches import Step, StepSize, sample_steps
from gmai_vl.training.dealing import Slot
from gmai_vl.training.feed import LoadImage, micro_batches
from gmai_vl.training.fit import Fit, loads_of
from gmai_vl.training.gradients import answer_losses, losses, slots_of, turns
from gmai_vl.training.sharding import Learner, Loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """How a model does on held-out samples."""

    loss: float
    """Mean over all supervised tokens."""

    accuracy: float | None
    """Share of the samples whose answers greedy decoding would give exactly; None where no text is read."""

    accuracy_by_kind: dict[str, float]


def validate(
    learner: Learner,
    processor: LlavaProcessor,
    load_image: LoadImage,
    loss_of: Loss,
    held_out: Fit,
    *,
    micro_batch_tokens: int,
    stage: str,
) -> Validation:
    """Run the model over `held_out` and leave it in evaluation mode.

    Raises UserError, naming the `stage`, if the loss is not finite.
    """
    if loss_of is loss_sum:
        loss_N, right_N = score(learner, processor, load_image, held_out, micro_batch_tokens)
        total, accuracy = float(loss_N.sum()), float(right_N.mean())
        by_kind = _by_kind(held_out.mixture.kinds(), right_N)
    else:
        step, slots, batches = _one_step(learner, processor, load_image, held_out, micro_batch_tokens)
        total, accuracy, by_kind = sum(losses(learner, loss_of, slots, batches, len(step))), None, {}
    loss = total / int(held_out.sizes.supervised_N.sum())
    if not math.isfinite(loss):
        raise UserError(f"stage {stage}: the validation loss is not finite; lower `learning_rate`")
    return Validation(loss=loss, accuracy=accuracy, accuracy_by_kind=by_kind)


def score(
    learner: Learner, processor: LlavaProcessor, load_image: LoadImage, fit: Fit, micro_batch_tokens: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return of each sample [N] the sum of its token losses, and whether its answers are right; in evaluation mode."""
    step, slots, batches = _one_step(learner, processor, load_image, fit, micro_batch_tokens)
    return answer_losses(learner, step, slots, batches, len(fit.mixture))


def confidences(
    learner: Learner, processor: LlavaProcessor, load_image: LoadImage, fit: Fit, micro_batch_tokens: int
) -> NDArray[np.float64]:
    """Return of each sample [N] how sure the model is of its answers, 0-1: the geometric mean of the probabilities."""
    loss_N, _ = score(learner, processor, load_image, fit, micro_batch_tokens)
    return np.exp(-loss_N / fit.sizes.supervised_N)


def _one_step(
    learner: Learner, processor: LlavaProcessor, load_image: LoadImage, fit: Fit, micro_batch_tokens: int
) -> tuple[Step, list[Slot], Iterator[Batch]]:
    """Put `learner` into evaluation mode; return all samples as one step, and this rank's slots and batches of it."""
    learner.eval()
    (step,) = sample_steps(
        fit.sizes.tokens_N,
        size=StepSize(len(fit.mixture), "units"),
        micro_batch_tokens=micro_batch_tokens,
        seed=0,
        epochs=1,
    ).after(0)
    order = turns([step], fit.sizes, learner.ranks)
    batches = micro_batches(processor, load_image, fit, order, ahead=learner.ranks.has_own_device)
    return step, slots_of(loads_of(step, fit.sizes), learner.ranks), batches


def _by_kind(kinds: list[str], right_N: NDArray[np.bool_]) -> dict[str, float]:
    of_kind: dict[str, list[bool]] = defaultdict(list)
    for kind, right in zip(kinds, right_N.tolist(), strict=True):
        of_kind[kind].append(right)
    return {kind: sum(right) / len(right) for kind, right in sorted(of_kind.items())}
