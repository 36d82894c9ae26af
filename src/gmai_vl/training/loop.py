"""One stage: gradients gathered over the micro-batches of a step, one update and one line of log per global batch."""

import time
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from gmai_vl.foundation import say, stable_rng
from gmai_vl.model import Vlm, loss_sum, words_loss_sum
from gmai_vl.training.arithmetic import NO_ADAPTERS, Adapters, flops_of_step, load_of, peak_flops
from gmai_vl.training.batches import Step
from gmai_vl.training.feed import image_loader, micro_batches
from gmai_vl.training.fit import Fit, Sizes, StepSize, packs_of, plan_steps, step_size
from gmai_vl.training.gradients import backward, fed, slots_of
from gmai_vl.training.health import REMEMBERED_LOSSES, peak_memory, stop_if_ill
from gmai_vl.training.modes import set_modes
from gmai_vl.training.optimizer import clip_gradients, make_optimizer, set_learning_rates
from gmai_vl.training.packing import PackLimits
from gmai_vl.training.recipe import Stage
from gmai_vl.training.schedule import learning_rate_factor
from gmai_vl.training.sharding import Learner, Loss
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

    def add(self, size: StepSize, loss: float, seconds: float) -> None:
        """Count one more step."""
        self.steps += 1
        self.samples += size.samples
        self.tokens += size.tokens
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
        totals = Totals(**load_state(state, learner, optimizer, ranks, seed=stage_seed))
        if ranks.is_main:
            say(f"{stage.name}: goes on after step {totals.steps} of {len(plan)}")
    keeps_best = stage.validation is not None and stage.validation.keep == "best"
    load_image = image_loader(run.vlm.processor)
    loss_of = _loss(run, stage, fit)
    set_modes(learner.model, stage)

    rounds = fed(plan.after(totals.steps), fit.sizes, ranks)
    batches = micro_batches(run.vlm.processor, load_image, fit, rounds, ahead=ranks.has_own_device)
    with step_display(stage.name, len(plan), shown=ranks.is_main) as show:
        for step in plan.after(totals.steps):
            started = time.perf_counter()
            size = step_size(step, fit.sizes)
            slots = slots_of(step, fit.sizes, ranks)
            sums = backward(learner, loss_of, slots, islice(batches, len(slots)), size.supervised_tokens, len(step))
            norm = clip_gradients(optimizer, stage.clip)
            stop_if_ill(
                step,
                sums,
                [int(fit.sizes.supervised_N[list(micro)].sum()) for micro in step],
                norm,
                totals.losses,
                run.stop_at_leap,
                mixture=fit.mixture,
                stage=stage.name,
                number=totals.steps + 1,
                log=run.log,
            )
            rates = set_learning_rates(optimizer, learning_rate_factor(totals.steps, len(plan), stage.warmup_ratio))
            optimizer.step()
            optimizer.zero_grad()
            seconds = time.perf_counter() - started
            totals.add(size, sum(sums) / size.supervised_tokens, seconds)
            run.log.write(
                "step",
                stage.name,
                totals.steps,
                steps=len(plan),
                epoch=totals.samples / len(fit.mixture),
                loss=totals.loss,
                gradient_norm=norm,
                learning_rate=rates,
                **asdict(size),
                seconds=seconds,
                samples_per_second=size.samples / seconds,
                tokens_per_second=size.tokens / seconds,
                peak_memory_bytes=peak_memory(ranks.device),
                **_speed(run, stage, fit.sizes, step, seconds),
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
                samples = len(held_out.mixture)
                run.log.write("validation", stage.name, totals.steps, samples=samples, **asdict(found))
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


def _speed(run: Run, stage: Stage, sizes: Sizes, step: Step, seconds: float) -> dict[str, float]:
    """Return operations a second, without what is computed again, and their share of what the devices can do (MFU).

    Empty where the cost of the model is not known; without MFU where that of the device is not.
    """
    if run.survey is None:
        return {}
    chosen = [index for micro in step for index in micro]
    load = load_of(
        sizes.tokens_N[chosen].tolist() if stage.objective == "text" else [],
        images=int(sizes.images_N[chosen].sum()),
        supervised=int(sizes.supervised_N[chosen].sum()),
    )
    adapters = Adapters(parts=stage.lora.parts, rank=stage.lora.rank) if stage.lora else NO_ADAPTERS
    speed = flops_of_step(run.survey, load, train=stage.train, lora=adapters).model / seconds
    peak = peak_flops(run.learner.ranks.device)
    return {"flops_per_second": speed} | ({"mfu": speed / (peak * run.learner.ranks.world)} if peak else {})


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
