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
from gmai_vl.training.batches import Step, epoch_steps, packed_epoch_steps, steps_in_epoch
from gmai_vl.training.feed import LoadImage, Size, image_loader, measure, micro_batches
from gmai_vl.training.mixture import Example
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
    examples: Sequence[Example],
    held_out: Sequence[Example],
    *,
    seed: int,
    precision: Precision,
    log: RunLog,
    limits: PackLimits | None = None,
) -> Totals:
    """Train the parts of `vlm` that `stage` names, in place, and leave it in evaluation mode.

    `held_out` are the samples to validate on; empty for no validation. With `limits` the samples are packed, and those
    that fit into no pack are left out and named in the log. Raises UserError where none is left, and, naming samples,
    where a loss or a gradient is not finite; the weights are then those before that step.
    """
    model = vlm.model
    set_trainable(model, stage.train)
    optimizer = make_optimizer(model, stage.rates, stage.weight_decay)
    mixture = examples
    examples, sizes = _that_fit(vlm, stage, mixture, limits, log)
    plan = plan_steps(stage, sizes, seed, limits)
    load_image = image_loader(vlm.processor)
    order = (micro for step in plan for micro in step)
    batches = micro_batches(
        vlm.processor,
        load_image,
        examples,
        order,
        longest=limits.length if limits else None,
        ahead=_has_own_device(model),
    )
    loss_of = _loss(vlm, stage, examples)
    validate = _validation(vlm, stage, held_out, load_image, precision, loss_of, limits, log) if held_out else None
    _set_modes(model, stage)

    totals = Totals(left_out=len(mixture) - len(examples))
    with step_display(stage.name, len(plan)) as show:
        for step in plan:
            started = time.perf_counter()
            size = _step_size(step, sizes)
            sums = backward(model, islice(batches, len(step)), size.supervised_tokens, precision, loss_of)
            norm = clip_gradients(optimizer, stage.clip)
            _stop_unless_finite(stage, totals.steps + 1, step, sums, norm, examples, log)
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
                epoch=totals.samples / len(examples),
                loss=totals.loss,
                gradient_norm=norm,
                learning_rate=rates,
                **asdict(size),
                seconds=seconds,
                samples_per_second=size.samples / seconds,
                tokens_per_second=size.tokens / seconds,
            )
            show(totals.steps, totals.note(len(plan)))
            if validate and _validation_is_due(stage, totals.steps, len(plan)):
                totals.validation_loss = validate()
                log.write("validation", stage.name, totals.steps, loss=totals.validation_loss, samples=len(held_out))
    model.eval()
    return totals


def _loss(vlm: Vlm, stage: Stage, examples: Sequence[Example]) -> Loss:
    if stage.objective == "text":
        return loss_sum
    words_W = telling_words(vlm.processor, examples, stage.name).to(vlm.model.device)
    return partial(words_loss_sum, words_W=words_W)


def _that_fit(
    vlm: Vlm, stage: Stage, examples: Sequence[Example], limits: PackLimits | None, log: RunLog
) -> tuple[list[Example], list[Size]]:
    """Return the examples that go into a pack, with their sizes; the log names the others, and those that are cut."""
    longest = limits.length if limits else None
    sizes = measure(vlm.processor, examples, f"{stage.name}: counting tokens", longest)
    fitting: list[Example] = []
    theirs: list[Size] = []
    left_out: list[str] = []
    for example, size in zip(examples, sizes, strict=True):
        if size and (limits is None or _goes_into_a_pack(size, limits)):
            fitting.append(example)
            theirs.append(size)
        else:
            left_out.append(example.sample.id)
    if limits is None:
        return fitting, theirs
    cut = [example.sample.id for example, size in zip(fitting, theirs, strict=True) if size.tokens < size.whole]
    what = f"a pack of {limits.length} tokens and {limits.most_images} images"
    if left_out or cut:
        log.write("too long", stage.name, 0, left_out=left_out, cut=cut)
        say(
            f"{stage.name}: of {len(examples)} samples {len(left_out)} do not fit into {what} and are left out, "
            f"{len(cut)} are cut; log.jsonl names them"
        )
    if not fitting:
        raise UserError(
            f"stage {stage.name}: none of {len(examples)} samples fits into {what}; raise `pack_length` or "
            "`max_images_per_pack`"
        )
    return fitting, theirs


def _goes_into_a_pack(size: Size, limits: PackLimits) -> bool:
    return size.images <= limits.most_images and (limits.too_long == "cut" or size.whole <= limits.length)


def plan_steps(stage: Stage, sizes: Sequence[Size], seed: int, limits: PackLimits | None = None) -> list[Step]:
    """Return the steps of a stage, epoch after epoch; `sizes` are those of the examples."""
    tokens = [size.tokens for size in sizes]
    if limits:
        packs = pack(tokens, [size.images for size in sizes], limits, seed=seed)
        per_epoch = steps_in_epoch(len(packs), stage.global_batch)
        steps_of = partial(packed_epoch_steps, packs, global_batch=stage.global_batch, seed=seed)
    else:
        per_epoch = steps_in_epoch(len(sizes), stage.global_batch)
        steps_of = partial(
            epoch_steps,
            tokens,
            global_batch=stage.global_batch,
            micro_batch_tokens=stage.micro_batch_tokens,
            seed=seed,
        )
    steps = stage.max_steps or (stage.epochs or 0) * per_epoch
    return [step for epoch in range(-(-steps // per_epoch)) for step in steps_of(epoch=epoch)][:steps]


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
    held_out: Sequence[Example],
    load_image: LoadImage,
    precision: Precision,
    loss_of: Loss,
    limits: PackLimits | None,
    log: RunLog,
) -> Callable[[], float]:
    """Return a function that gives the loss on the held-out samples, cut as those to learn, and leaves the model be."""
    held_out, sizes = _that_fit(vlm, stage, held_out, limits, log)
    longest = limits.length if limits else None
    (order,) = epoch_steps(
        [size.tokens for size in sizes],
        global_batch=len(held_out),
        micro_batch_tokens=stage.micro_batch_tokens,
        seed=0,
        epoch=0,
    )

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


def _step_size(step: Step, sizes: Sequence[Size]) -> StepSize:
    chosen = [sizes[index] for micro in step for index in micro]
    return StepSize(
        samples=len(chosen),
        tokens=sum(size.tokens for size in chosen),
        supervised_tokens=sum(size.supervised for size in chosen),
    )


def _stop_unless_finite(
    stage: Stage,
    number: int,
    step: Step,
    sums: Sequence[float],
    norm: float,
    examples: Sequence[Example],
    log: RunLog,
) -> None:
    if math.isfinite(sum(sums)) and math.isfinite(norm):
        return
    ill = [micro for micro, total in zip(step, sums, strict=True) if not math.isfinite(total)]
    what = "loss" if ill else "gradient"
    ids = [examples[index].sample.id for micro in ill or step for index in micro]
    log.write("stopped", stage.name, number, reason=f"the {what} is not finite", sample_ids=ids)
    named = ", ".join(ids[:NAMED_SAMPLES])
    more = f" and {len(ids) - NAMED_SAMPLES} more, see log.jsonl" if len(ids) > NAMED_SAMPLES else ""
    raise UserError(
        f"stage {stage.name}, step {number}: the {what} is not finite; lower `learning_rate`, or look with "
        f"`gmai data trace` at the samples: {named}{more}"
    )
