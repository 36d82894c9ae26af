"""One stage: gradients gathered over the micro-batches of a step, one update and one line of log per global batch."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from gmai_vl.foundation import UserError, say
from gmai_vl.model import Batch, Vlm, loss_sum, parts, set_trainable, words_loss_sum
from gmai_vl.training.batches import Step, Steps, pack_steps, sample_steps
from gmai_vl.training.feed import LoadImage, Sizes, fitted, image_loader, micro_batches, sizes_of
from gmai_vl.training.mixture import Mixture
from gmai_vl.training.optimizer import clip_gradients, make_optimizer, set_learning_rates
from gmai_vl.training.packing import PackLimits, pack
from gmai_vl.training.precision import Precision, autocast
from gmai_vl.training.recipe import Stage
from gmai_vl.training.schedule import learning_rate_factor
from gmai_vl.training.telemetry import RunLog, duration, step_display
from gmai_vl.training.words import telling_words

Loss = Callable[[LlavaForConditionalGeneration, Batch], tuple[Tensor, int]]
"""Gives the sum of the losses of a micro-batch and the number of its supervised tokens."""

NAMED_SAMPLES = 8
"""So many samples are named in an error line; the log has all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSize:
    """How much goes through the model in one step."""

    samples: int
    tokens: int
    """Text and image tokens."""

    supervised_tokens: int
    """Tokens that the loss looks at."""


@dataclass(kw_only=True, slots=True)
class Totals:
    """What a stage has done so far."""

    steps: int = 0
    samples: int = 0
    """Samples seen, repeated ones each time."""

    tokens: int = 0
    """Text and image tokens seen."""

    seconds: float = 0.0
    """Spent on steps; validation and saving apart."""

    loss: float = math.nan
    """Mean loss per supervised token of the last step."""

    validation_loss: float | None = None
    """The same over the held-out samples, at the last validation."""

    left_out: int = 0
    """Samples of the mixture that fit into no pack."""

    def add(self, size: StepSize, loss: float, seconds: float) -> None:
        """Count one more step."""
        self.steps += 1
        self.samples += size.samples
        self.tokens += size.tokens
        self.seconds += seconds
        self.loss = loss

    def note(self, steps: int) -> str:
        """Return a line for people, with the time that is left of `steps` in all."""
        left = duration((steps - self.steps) * self.seconds / self.steps)
        speed = f"{self.tokens / self.seconds:,.0f} tokens/s, {self.samples / self.seconds:.1f} samples/s"
        return f"loss {self.loss:.3f}, {speed}, {left} left"


def run_stage(
    vlm: Vlm,
    stage: Stage,
    mixture: Mixture,
    held_out: Mixture | None,
    *,
    seed: int,
    precision: Precision,
    log: RunLog,
    limits: PackLimits | None = None,
) -> Totals:
    """Train the parts of `vlm` that `stage` names on `mixture`, in place, and leave it in evaluation mode.

    `held_out` are the samples to validate on, None for no validation. With `limits` the samples are packed, and those
    that fit into no pack are left out and named in the log. Raises UserError where none is left, and, naming samples,
    where a loss or a gradient is not finite; the weights are then those before that step.
    """
    model = vlm.model
    set_trainable(model, stage.train)
    optimizer = make_optimizer(model, stage.rates, stage.weight_decay)
    whole = len(mixture)
    mixture, sizes = _that_fit(vlm, stage, mixture, limits, log)
    plan = plan_steps(stage, sizes, seed, limits)
    load_image = image_loader(vlm.processor)
    order = (micro for step in plan.after(0) for micro in step)
    batches = micro_batches(
        vlm.processor,
        load_image,
        mixture,
        order,
        longest=limits.length if limits else None,
        ahead=_has_own_device(model),
    )
    loss_of = _loss(vlm, stage, mixture)
    validate = _validation(vlm, stage, held_out, load_image, precision, loss_of, limits, log) if held_out else None
    _set_modes(model, stage)

    totals = Totals(left_out=whole - len(mixture))
    with step_display(stage.name, len(plan)) as show:
        for step in plan.after(0):
            started = time.perf_counter()
            size = _step_size(step, sizes)
            sums = backward(model, islice(batches, len(step)), size.supervised_tokens, precision, loss_of)
            norm = clip_gradients(optimizer, stage.clip)
            _stop_unless_finite(stage, totals.steps + 1, step, sums, norm, mixture, log)
            rates = set_learning_rates(optimizer, learning_rate_factor(totals.steps, len(plan), stage.warmup_ratio))
            optimizer.step()
            optimizer.zero_grad()
            seconds = time.perf_counter() - started
            totals.add(size, sum(sums) / size.supervised_tokens, seconds)
            log.write(
                "step",
                stage.name,
                totals.steps,
                steps=len(plan),
                epoch=totals.samples / len(mixture),
                loss=totals.loss,
                gradient_norm=norm,
                learning_rate=rates,
                **asdict(size),
                seconds=seconds,
                samples_per_second=size.samples / seconds,
                tokens_per_second=size.tokens / seconds,
            )
            show(totals.steps, totals.note(len(plan)))
            if held_out and validate and _validation_is_due(stage, totals.steps, len(plan)):
                totals.validation_loss = validate()
                log.write("validation", stage.name, totals.steps, loss=totals.validation_loss, samples=len(held_out))
    model.eval()
    return totals


def _loss(vlm: Vlm, stage: Stage, mixture: Mixture) -> Loss:
    if stage.objective == "text":
        return loss_sum
    return partial(words_loss_sum, words_W=telling_words(mixture, stage.name).to(vlm.model.device))


def _that_fit(
    vlm: Vlm, stage: Stage, mixture: Mixture, limits: PackLimits | None, log: RunLog
) -> tuple[Mixture, Sizes]:
    """Return the samples that go into a pack, with their sizes; the log names the others, and those that are cut."""
    if limits is None:
        return mixture, sizes_of(mixture)
    fit = fitted(vlm.processor, mixture, limits)
    what = f"a pack of {limits.length} tokens and {limits.most_images} images"
    if len(fit.left_out) or len(fit.cut):
        left_out, cut = (some.ids(range(len(some))) for some in (fit.left_out, fit.cut))
        log.write("too long", stage.name, 0, left_out=left_out, cut=cut)
        say(
            f"{stage.name}: of {len(mixture)} samples {len(left_out)} do not fit into {what} and are left out, "
            f"{len(cut)} are cut; log.jsonl names them"
        )
    if not len(fit.mixture):
        raise UserError(
            f"stage {stage.name}: none of {len(mixture)} samples fits into {what}; raise `pack_length` or "
            "`max_images_per_pack`"
        )
    return fit.mixture, fit.sizes


def plan_steps(stage: Stage, sizes: Sizes, seed: int, limits: PackLimits | None = None) -> Steps:
    """Return the steps of a stage, epoch after epoch; `sizes` are those of the samples of its mixture."""
    if limits:
        packs = pack(sizes.tokens_N, sizes.images_N, limits, seed=seed)
        return pack_steps(
            packs, global_batch=stage.global_batch, seed=seed, epochs=stage.epochs, max_steps=stage.max_steps
        )
    return sample_steps(
        sizes.tokens_N,
        global_batch=stage.global_batch,
        micro_batch_tokens=stage.micro_batch_tokens,
        seed=seed,
        epochs=stage.epochs,
        max_steps=stage.max_steps,
    )


def backward(
    model: LlavaForConditionalGeneration,
    batches: Iterable[Batch],
    supervised: int,
    precision: Precision,
    loss_of: Loss = loss_sum,
) -> list[float]:
    """Add to the gradients those of the mean loss over the `supervised` tokens of all batches together.

    That mean is the same however a global batch is cut. Returns the sum of the token losses of each batch.
    """
    sums = []
    for batch in batches:
        with autocast(precision, model.device):
            total, _ = loss_of(model, batch.to(model.device))
        if total.requires_grad:  # text without images reaches no part that learns where only those of the image do
            (total / supervised).backward()
        sums.append(total.detach())
    return torch.stack(sums).tolist()


@torch.no_grad()
def mean_loss(
    model: LlavaForConditionalGeneration, batches: Iterable[Batch], precision: Precision, loss_of: Loss
) -> float:
    """Return the mean loss over the supervised tokens of all batches together."""
    total, supervised = 0.0, 0
    for batch in batches:
        with autocast(precision, model.device):
            loss, count = loss_of(model, batch.to(model.device))
        total += float(loss)
        supervised += count
    return total / supervised


def _validation(
    vlm: Vlm,
    stage: Stage,
    held_out: Mixture,
    load_image: LoadImage,
    precision: Precision,
    loss_of: Loss,
    limits: PackLimits | None,
    log: RunLog,
) -> Callable[[], float]:
    """Return a function that gives the loss on the held-out samples, cut as those to learn, and leaves the model be."""
    held_out, sizes = _that_fit(vlm, stage, held_out, limits, log)
    longest = limits.length if limits else None
    (order,) = sample_steps(
        sizes.tokens_N, global_batch=len(held_out), micro_batch_tokens=stage.micro_batch_tokens, seed=0, epochs=1
    ).after(0)

    def validate() -> float:
        vlm.model.eval()
        ahead = _has_own_device(vlm.model)
        batches = micro_batches(vlm.processor, load_image, held_out, order, longest=longest, ahead=ahead)
        loss = mean_loss(vlm.model, batches, precision, loss_of)
        _set_modes(vlm.model, stage)
        if not math.isfinite(loss):
            raise UserError(f"stage {stage.name}: the validation loss is not finite; lower `learning_rate`")
        return loss

    return validate


def _has_own_device(model: LlavaForConditionalGeneration) -> bool:
    return model.device.type != "cpu"


def _validation_is_due(stage: Stage, done: int, steps: int) -> bool:
    return stage.validation is not None and (done % stage.validation.every == 0 or done == steps)


def _set_modes(model: LlavaForConditionalGeneration, stage: Stage) -> None:
    """Put the parts that learn into training mode, the frozen ones, dropout and statistics included, out of it."""
    for name, part in parts(model).items():
        part.train(name in stage.train)


def _step_size(step: Step, sizes: Sizes) -> StepSize:
    chosen = [index for micro in step for index in micro]
    return StepSize(
        samples=len(chosen),
        tokens=int(sizes.tokens_N[chosen].sum()),
        supervised_tokens=int(sizes.supervised_N[chosen].sum()),
    )


def _stop_unless_finite(
    stage: Stage,
    number: int,
    step: Step,
    sums: Sequence[float],
    norm: float,
    mixture: Mixture,
    log: RunLog,
) -> None:
    if math.isfinite(sum(sums)) and math.isfinite(norm):
        return
    ill = [micro for micro, total in zip(step, sums, strict=True) if not math.isfinite(total)]
    what = "loss" if ill else "gradient"
    ids = mixture.ids([index for micro in ill or step for index in micro])
    log.write("stopped", stage.name, number, reason=f"the {what} is not finite", sample_ids=ids)
    named = ", ".join(ids[:NAMED_SAMPLES])
    more = f" and {len(ids) - NAMED_SAMPLES} more, see log.jsonl" if len(ids) > NAMED_SAMPLES else ""
    raise UserError(
        f"stage {stage.name}, step {number}: the {what} is not finite; lower `learning_rate`, or look with "
        f"`gmai data trace` at the samples: {named}{more}"
    )
