"""A plan: what a recipe would do, stage by stage, before any weight is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmai_vl.corpus import Corpus
from gmai_vl.model import Vlm, count_parameters, outline, set_trainable
from gmai_vl.training.adapters import add_adapters, freeze_all_but_adapters
from gmai_vl.training.fit import Fit, fitted, packs_of, plan_steps
from gmai_vl.training.mixture import training_mixture
from gmai_vl.training.packing import Packs
from gmai_vl.training.recipe import Stage, TrainRecipe
from gmai_vl.training.run import placed
from gmai_vl.training.tokens import TokenStore, open_tokens


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


def plan(recipe: TrainRecipe, base: Path) -> list[StagePlan]:
    """Return what each stage of `recipe`, whose paths are relative to `base`, would do.

    Reads the corpora and the tokenizer and makes the token stores; no weight is loaded. Filters by what an earlier
    stage has learnt cannot be applied. Raises UserError as `train` would.
    """
    vlm = outline(placed(recipe.model, base))
    names = dict.fromkeys(part.corpus for stage in recipe.stages for part in stage.mixture)
    stores = {name: open_tokens(Corpus((base / name).resolve()), vlm.processor) for name in names}
    return [_stage_plan(recipe, stage, stores, base) for stage in recipe.stages]


def _stage_plan(recipe: TrainRecipe, stage: Stage, stores: Mapping[str, TokenStore], base: Path) -> StagePlan:
    vlm = outline(placed(recipe.model, base))
    mixture = training_mixture(stage, stores, recipe.seed)
    fit = fitted(vlm.processor, mixture, recipe.pack_limits, stage.name)
    packs = packs_of(fit.sizes, recipe.pack_limits, recipe.seed)
    steps = plan_steps(stage, fit.sizes, packs, recipe.seed)
    learns = _learns(vlm, stage, recipe.seed)
    return StagePlan(
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
        learns=learns,
        parameters=sum(count.total for count in count_parameters(vlm.model).values()),
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
    return [asdict(stage) for stage in plans]
