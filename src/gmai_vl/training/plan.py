"""A plan: what a recipe would do, stage by stage, before any weight is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmai_vl.corpus import Corpus
from gmai_vl.foundation import say
from gmai_vl.model import Vlm, count_parameters, new_conversations, outline, set_trainable
from gmai_vl.training.adapters import add_adapters, freeze_all_but_adapters
from gmai_vl.training.arithmetic import (
    Load,
    Memory,
    Placement,
    adapters_of,
    flops_of_step,
    memory_of_step,
)
from gmai_vl.training.batches import Steps
from gmai_vl.training.fit import Fit, check_batch, fitted, load_of_samples, loads_of, packs_of, plan_steps
from gmai_vl.training.mixture import training_mixture
from gmai_vl.training.packing import Packs
from gmai_vl.training.precision import Precision
from gmai_vl.training.recipe import Stage, TrainRecipe
from gmai_vl.training.run import placed
from gmai_vl.training.survey import survey_if_known
from gmai_vl.training.tokens import open_tokens

STEPS_LOOKED_AT = 200
"""So many steps are searched for the largest micro-batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackPlan:
    """How the samples of an epoch lie in packs."""

    packs: int
    fill: float
    """Share of the room that is tokens, 0-1."""

    padding: int
    """Tokens of room that stays empty. Nothing is computed for it: a pack goes through the model as long as it is."""

    samples_per_pack: float
    images_per_pack: float
    most_images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """What one stage would do."""

    name: str
    samples: int
    """Of an epoch, without those left out."""

    left_out: int
    """Samples that fit into no pack."""

    cut: int
    """Samples that lose the end of an answer."""

    tokens: int
    """Of an epoch, text and image."""

    supervised_tokens: int
    images: int
    longest: int
    """Tokens of the longest sample, as it is fed."""

    packs: PackPlan | None
    """None where samples are not packed."""

    steps: int
    epochs: float
    learns: Mapping[str, int]
    """Part -> parameters that learn."""

    parameters: int
    """Of the whole model, frozen ones too."""

    memory: Memory | None
    """Of the largest micro-batch on each device; None for a model that the estimate does not know."""

    flops: int | None
    """Floating point operations of an epoch, without what is computed again; None likewise."""


def plan(recipe: TrainRecipe, base: Path, *, devices: int = 1, on_gpu: bool = False) -> list[StagePlan]:
    """Return what each stage of `recipe`, whose paths are relative to `base`, would do on so many `devices`.

    Memory is that of a CPU unless `on_gpu`, where attention keeps less.

    Reads the corpora and the tokenizer and makes the token stores; no weight is loaded. Filters by what an earlier
    stage has learnt cannot be applied. Raises UserError as `train` would.
    """
    settings = placed(recipe.model, base)
    vlm = outline(settings)
    if notice := new_conversations(settings):
        say(notice)
    numbers = survey_if_known(vlm)
    names = dict.fromkeys(part.corpus for stage in recipe.stages for part in stage.mixture)
    stores = {name: open_tokens(Corpus((base / name).resolve()), vlm.processor) for name in names}
    precision: Precision = "fp32" if recipe.precision == "fp32" else "bf16"
    plans = []
    for stage in recipe.stages:
        fit = fitted(vlm.processor, training_mixture(stage, stores, recipe.seed), recipe.pack_limits, stage.name)
        check_batch(stage, fit.sizes, recipe.pack_limits)
        packs = packs_of(fit.sizes, recipe.pack_limits, recipe.seed)
        steps = plan_steps(stage, fit.sizes, packs, recipe.seed)
        adapters = adapters_of(stage)
        placement = Placement(
            devices=devices,
            strategy=recipe.strategy,
            precision=precision,
            checkpointing=stage.gradient_checkpointing,
            lora=adapters,
            attention="fused" if on_gpu else "segments",
            accumulates=recipe.strategy != "full",
        )
        memory = flops = None
        if numbers:
            memory = memory_of_step(numbers, placement, _largest(fit, steps), train=stage.train)
            flops = flops_of_step(numbers, load_of_samples(fit.sizes), train=stage.train, lora=adapters).model
        plans.append(
            StagePlan(
                name=stage.name,
                samples=len(fit.mixture),
                left_out=len(fit.left_out),
                cut=len(fit.cut),
                tokens=int(fit.sizes.tokens_N.sum()),
                supervised_tokens=int(fit.sizes.supervised_N.sum()),
                images=int(fit.sizes.images_N.sum()),
                longest=int(fit.sizes.tokens_N.max()),
                packs=None if packs is None else _pack_plan(fit, packs, recipe.pack_length),
                steps=len(steps),
                epochs=len(steps) / steps.per_epoch,
                learns=_learns(outline(settings), stage, recipe.seed),
                parameters=sum(count.total for count in count_parameters(vlm.model).values()),
                memory=memory,
                flops=flops,
            )
        )
    return plans


def _largest(fit: Fit, steps: Steps) -> Load:
    """Return a load as large as the micro-batches of the first steps have it, each number for itself."""
    steps_looked_at = (steps[number] for number in range(min(len(steps), STEPS_LOOKED_AT)))
    loads = [load for step in steps_looked_at for load in loads_of(step, fit.sizes)]
    return Load(
        tokens=max(load.tokens for load in loads),
        squares=max(load.squares for load in loads),
        images=max(load.images for load in loads),
        supervised=max(load.supervised for load in loads),
        short=min(load.short for load in loads),  # a token of a long segment keeps more
        short_squares=max(load.short_squares for load in loads),
    )


def _learns(vlm: Vlm, stage: Stage, seed: int) -> dict[str, int]:
    if stage.lora:
        add_adapters(vlm.model, stage.lora, seed=seed)
    set_trainable(vlm.model, stage.train)
    freeze_all_but_adapters(vlm.model, stage.lora.parts if stage.lora else ())
    return {name: count.trainable for name, count in count_parameters(vlm.model).items() if count.trainable}


def _pack_plan(fit: Fit, packs: Packs, length: int) -> PackPlan:
    tokens = int(fit.sizes.tokens_N.sum())
    starts = np.concatenate([[0], packs.ends_P[:-1]])
    images_P = np.add.reduceat(fit.sizes.images_N[packs.order_N], starts)
    room = len(packs) * length
    return PackPlan(
        packs=len(packs),
        fill=tokens / room,
        padding=room - tokens,
        samples_per_pack=len(fit.mixture) / len(packs),
        images_per_pack=float(images_P.mean()),
        most_images=int(images_P.max()),
    )


def as_json(plans: Sequence[StagePlan]) -> list[dict[str, Any]]:
    """Return plans as JSON can hold them."""
    return [
        asdict(stage) | {"memory": stage.memory and asdict(stage.memory) | {"total": stage.memory.total}}
        for stage in plans
    ]
