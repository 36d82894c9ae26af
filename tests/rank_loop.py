"""A training loop over any number of ranks, as short as it can be, on conversations that are made up."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gmai_vl.model import (
    IGNORED,
    Batch,
    Encoded,
    ModelSettings,
    Vlm,
    build_model,
    collate,
    encode,
    image_side,
    loss_sum,
    outline,
)
from gmai_vl.records import ImageRef, Turn
from gmai_vl.training.dealing import Slot, deal, keep_company
from gmai_vl.training.optimizer import make_optimizer
from gmai_vl.training.precision import Precision
from gmai_vl.training.ranks import Ranks, total
from gmai_vl.training.recipe import Part, Strategy
from gmai_vl.training.sharding import Learner, Loss, shard, whole, whole_weights

ALL: tuple[Part, ...] = ("vision", "projector", "language")

MicroBatch = tuple[Encoded, list[Tensor]]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is trained, and how."""

    preset: str = "tiny"
    kind: torch.dtype = torch.float64
    precision: Precision = "fp32"
    strategy: Strategy = "full"
    parts: tuple[Part, ...] = ALL
    micro_batches: int = 8
    """Of each step."""
    texts: int = 3
    """So many of them, at least, show no image."""
    loss_of: Loss = loss_sum


def begin(trial: Trial, ranks: Ranks) -> tuple[Vlm, Learner, torch.optim.AdamW]:
    """Return the model of a trial, sharded, and its optimizer."""
    settings = ModelSettings(preset=trial.preset)
    vlm = build_model(settings, seed=0) if ranks.is_main else outline(settings)
    vlm.model.to(trial.kind)
    learner = shard(vlm.model, ranks, trial.strategy, trial.precision)
    learner.learn(trial.parts)
    return vlm, learner, make_optimizer(vlm.model, dict.fromkeys(trial.parts, 1e-3), 0.0)


def step_of(trial: Trial, number: int, vlm: Vlm) -> list[MicroBatch]:
    """Return the micro-batches of a step: one conversation each, with random words and pixels, the same everywhere."""
    rng = random.Random(number)
    pixels = torch.Generator().manual_seed(number)
    side = image_side(vlm.processor)
    texts = set(rng.sample(range(trial.micro_batches), trial.texts))
    made = []
    for place in range(trial.micro_batches):
        question, answer = ("".join(rng.choices("abcd ", k=rng.randint(2, 30))) for _ in range(2))
        shown = () if place in texts else (ImageRef(0),)
        encoded = encode(vlm.processor, [Turn("user", (*shown, question)), Turn("assistant", (answer,))])
        made.append((encoded, [torch.randn(3, side, side, generator=pixels) for _ in shown]))
    return made


def supervised_tokens(step: Sequence[MicroBatch]) -> int:
    """Return how many tokens of a step have a label."""
    return sum(label != IGNORED for encoded, _ in step for label in encoded.labels)


def batch_of(trial: Trial, vlm: Vlm, step: Sequence[MicroBatch], slot: Slot) -> Batch:
    """Return what one rank computes in one round."""
    chosen = [] if slot.micro_batch is None else [step[slot.micro_batch]]
    images = [image for _, shown in chosen for image in shown]
    batch = collate(
        vlm.processor, *keep_company(vlm.processor, slot.shows_image, [encoded for encoded, _ in chosen], images)
    )
    pixels = batch.pixel_values
    return batch if pixels is None else replace(batch, pixel_values=pixels.to(trial.kind))


def slots_of(step: Sequence[MicroBatch], ranks: Ranks) -> list[Slot]:
    """Return what this rank does in a step."""
    return deal([len(encoded.labels) for encoded, _ in step], [len(shown) for _, shown in step], ranks.world)[
        ranks.rank
    ]


def train_step(
    trial: Trial, vlm: Vlm, learner: Learner, optimizer: torch.optim.AdamW, step: Sequence[MicroBatch]
) -> tuple[float, float]:
    """Take one step; return the mean loss over its supervised tokens, and the norm of its gradient."""
    supervised = supervised_tokens(step)
    slots = slots_of(step, learner.ranks)
    sums = [0.0] * len(step)
    for slot in slots:
        learner.reduce_gradients(slot is slots[-1])
        loss, _ = learner(trial.loss_of, batch_of(trial, vlm, step, slot))
        if loss.requires_grad:  # text reaches no part that learns where only those of the image do
            (loss / supervised if slot.micro_batch is not None else 0 * loss).backward()
        if slot.micro_batch is not None:
            sums[slot.micro_batch] = float(loss.detach())
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = float(whole(torch.nn.utils.clip_grad_norm_(weights, 1.0)))
    optimizer.step()
    optimizer.zero_grad()
    return sum(total(sums, learner.ranks)) / supervised, norm


@torch.no_grad()
def mean_loss(trial: Trial, vlm: Vlm, learner: Learner, step: Sequence[MicroBatch]) -> float:
    """Return the mean loss over the supervised tokens of `step`, and learn nothing."""
    mine = 0.0
    for slot in slots_of(step, learner.ranks):
        loss, _ = learner(trial.loss_of, batch_of(trial, vlm, step, slot))
        mine += float(loss) if slot.micro_batch is not None else 0.0
    return total([mine], learner.ranks)[0] / supervised_tokens(step)


def train(trial: Trial, ranks: Ranks, steps: int) -> dict[str, Any]:
    """Train from the start; return losses before each step, norms of the gradients and the weights in the end.

    The weights are on rank 0 only.
    """
    vlm, learner, optimizer = begin(trial, ranks)
    losses, norms = [], []
    for number in range(steps):
        losses.append(mean_loss(trial, vlm, learner, step_of(trial, -number, vlm)))
        loss, norm = train_step(trial, vlm, learner, optimizer, step_of(trial, number, vlm))
        losses.append(loss)
        norms.append(norm)
    return {"losses": losses, "norms": norms, "weights": whole_weights(learner)}
