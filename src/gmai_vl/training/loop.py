"""One stage: gradients gathered over the micro-batches of a step, one update and one line of log per global batch."""

import time
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from gmai_vl.foundation import UserError, say, stable_rng
from gmai_vl.model import Vlm, loss_sum, words_loss_sum
from gmai_vl.training.arithmetic import together
from gmai_vl.training.feed import image_loader, micro_batches
from gmai_vl.training.fit import Fit, loads_of, packs_of, plan_steps
from gmai_vl.training.gradients import backward, slots_of, turns
from gmai_vl.training.health import REMEMBERED_LOSSES, find_fault, stop
from gmai_vl.training.memory import peak_memory
from gmai_vl.training.modes import set_modes
from gmai_vl.training.optimizer import clip_gradients, make_optimizer, set_learning_rates
from gmai_vl.training.packing import PackLimits
from gmai_vl.training.recipe import Stage
from gmai_vl.training.schedule import learning_rate_factor
from gmai_vl.training.sharding import Learner, Loss
from gmai_vl.training.speed import flops_and_mfu
from gmai_vl.training.state import StateWriter, load_state, seed_chance
from gmai_vl.training.survey import Survey
from gmai_vl.training.telemetry import RunLog, duration, step_display
from gmai_vl.training.validation import validate
from gmai_vl.training.words import telling_words


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What the stages of a training share."""

    vlm: Vlm
    learner: Learner
    """The model of `vlm`, spread over the ranks."""

    seed: int
    limits: PackLimits | None
    """How samples are packed; None where they are not."""

    log: RunLog
    states: StateWriter
    save_every: int
    """Steps from one saved state to the next."""

    stop_at_leap: float | None
    """Times the usual loss that stop the run."""

    survey: Survey | None
    """What the model costs, adapters apart; None for one of which that is not known."""


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

    losses: list[float] = field(default_factory=list)
    """Mean losses per supervised token of the last steps."""

    validation_loss: float | None = None
    """The same over the held-out samples: at the last validation or, where the best is kept, at that one."""

    best_step: int | None = None
    """Steps before the validation with the lowest loss; None where the last weights are kept."""

    left_out: int = 0
    """Samples of the mixture that fit into no pack."""

    def add(self, samples: int, tokens: int, loss: float, seconds: float) -> None:
        """Count one more step."""
        self.steps += 1
        self.samples += samples
        self.tokens += tokens
        self.seconds += seconds
        self.losses = [*self.losses[1 - REMEMBERED_LOSSES :], loss]

    @property
    def loss(self) -> float:
        """Mean loss per supervised token of the last step."""
        return self.losses[-1]

    def note_validation(self, loss: float, keeps_best: bool) -> bool:
        """Take down the loss of a validation; say whether these weights are to be kept as the best so far."""
        if keeps_best and self.validation_loss is not None and loss >= self.validation_loss:
            return False
        self.validation_loss = loss
        self.best_step = self.steps if keeps_best else None
        return keeps_best

    def note(self, steps: int) -> str:
        """Return a line for people, with the time that is left of `steps` in all."""
        left = duration((steps - self.steps) * self.seconds / self.steps)
        speed = f"{self.tokens / self.seconds:,.0f} tokens/s, {self.samples / self.seconds:.1f} samples/s"
        return f"loss {self.loss:.3f}, {speed}, {left} left"


def run_stage(run: Run, stage: Stage, fit: Fit, held_out: Fit | None, state: Path | None = None) -> Totals:
    """Train the parts that `stage` names on the samples of `fit`, and leave the model in evaluation mode.

    `held_out` are the samples to validate on, None for no validation. The stage goes on from `state`, where one is
    given. Raises UserError, naming samples, where a loss or a gradient is not finite; the weights are then those before
    that step.
    """
    learner, ranks = run.learner, run.learner.ranks
    learner.learn(stage.train, adapted=stage.lora.parts if stage.lora else ())
    optimizer = make_optimizer(learner.model, stage.rates, stage.weight_decay)
    plan = plan_steps(stage, fit.sizes, packs_of(fit.sizes, run.limits, run.seed), run.seed)
    totals = Totals(left_out=len(fit.left_out))
    stage_seed = stable_rng(run.seed, stage.name).getrandbits(63)
    seed_chance(stage_seed, ranks.rank)
    if state is None:
        _tell_what_does_not_fit(run, stage, fit)
        _tell_what_does_not_fit(run, stage, held_out)
    else:
        totals = _totals_of(state, load_state(state, learner, optimizer, ranks, seed=stage_seed))
        if ranks.is_main:
            say(f"{stage.name}: goes on after step {totals.steps} of {len(plan)}")
    keeps_best = stage.validation is not None and stage.validation.keep == "best"
    load_image = image_loader(run.vlm.processor)
    loss_of = _loss(run, stage, fit)
    set_modes(learner.model, stage)

    order = turns(plan.after(totals.steps), fit.sizes, ranks)
    batches = micro_batches(run.vlm.processor, load_image, fit, order, ahead=ranks.has_own_device)
    with step_display(stage.name, len(plan), shown=ranks.is_main) as show:
        for step in plan.after(totals.steps):
            started = time.perf_counter()
            loads = loads_of(step, fit.sizes)
            load = together(loads)
            slots = slots_of(loads, ranks)
            sums = backward(learner, loss_of, slots, islice(batches, len(slots)), load.supervised, len(step))
            norm = clip_gradients(optimizer, stage.clip)
            supervised = [load.supervised for load in loads]
            if fault := find_fault(sums, supervised, norm, totals.losses, run.stop_at_leap):
                stop(fault, step, totals.steps + 1, stage.name, fit.mixture, run.log)
            rates = set_learning_rates(optimizer, learning_rate_factor(totals.steps, len(plan), stage.warmup_ratio))
            optimizer.step()
            optimizer.zero_grad()
            seconds = time.perf_counter() - started
            samples = sum(map(len, step))
            totals.add(samples, load.tokens, sum(sums) / load.supervised, seconds)
            run.log.write(
                "step",
                stage.name,
                totals.steps,
                steps=len(plan),
                epoch=totals.samples / len(fit.mixture),
                loss=totals.loss,
                gradient_norm=norm,
                learning_rate=rates,
                samples=samples,
                tokens=load.tokens,
                supervised_tokens=load.supervised,
                images=load.images,
                seconds=seconds,
                samples_per_second=samples / seconds,
                tokens_per_second=load.tokens / seconds,
                **flops_and_mfu(load, seconds, stage, run.survey, ranks),
                peak_memory_bytes=peak_memory(ranks.device),
            )
            show(totals.steps, totals.note(len(plan)))
            improved = False
            if held_out and _validation_is_due(stage, totals.steps, len(plan)):
                found = validate(
                    learner,
                    run.vlm.processor,
                    load_image,
                    loss_of,
                    held_out,
                    micro_batch_tokens=stage.micro_batch_tokens,
                    stage=stage.name,
                )
                set_modes(learner.model, stage)
                count = len(held_out.mixture)
                run.log.write("validation", stage.name, totals.steps, samples=count, **asdict(found))
                improved = totals.note_validation(found.loss, keeps_best)
            if (improved or totals.steps % run.save_every == 0) and totals.steps < len(plan):
                best = totals.best_step
                run.states.save(stage.name, totals.steps, learner, optimizer, asdict(totals), best=best)
    if totals.best_step not in (None, totals.steps):
        best_state = run.states.folder(stage.name, totals.best_step)
        load_state(best_state, learner, optimizer, ranks, seed=stage_seed)
        if ranks.is_main:
            say(f"{stage.name}: keeps the weights after step {totals.best_step}, with the lowest validation loss")
    learner.eval()
    return totals


def _totals_of(state: Path, numbers: dict[str, Any]) -> Totals:
    try:
        return Totals(**numbers)
    except TypeError:
        raise UserError(f"{state}: was written by another version; go on with that one, or begin anew") from None


def _loss(run: Run, stage: Stage, fit: Fit) -> Loss:
    if stage.objective == "text":
        return loss_sum
    return partial(words_loss_sum, words_W=telling_words(fit.mixture, stage.name).to(run.learner.ranks.device))


def _tell_what_does_not_fit(run: Run, stage: Stage, fit: Fit | None) -> None:
    if fit is None or not (len(fit.left_out) or len(fit.cut)):
        return
    left_out, cut = (some.ids(range(len(some))) for some in (fit.left_out, fit.cut))
    run.log.write("too long", stage.name, 0, left_out=left_out, cut=cut)
    say(
        f"{stage.name}: of {len(fit.mixture) + len(left_out)} samples {len(left_out)} do not fit into a pack and are "
        f"left out, {len(cut)} are cut; log.jsonl names them"
    )


def _validation_is_due(stage: Stage, done: int, steps: int) -> bool:
    return stage.validation is not None and (done % stage.validation.every == 0 or done == steps)
