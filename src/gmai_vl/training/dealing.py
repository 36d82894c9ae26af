"""Dealing: which rank computes which micro-batch of a step, in rounds that all ranks go through together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlavaProcessor

from gmai_vl.model import IGNORED, Encoded, image_side, image_token_count

IMAGE_COST = 20
"""Tokens that take as long as one image in the vision tower does. CLIP ViT-L/14-336 has 577 tokens and 0.3 billion
weights beside 7 billion: 25. EfficientNet-Lite0 at 128 pixels, 18 ms beside 2.8 ms a token of SmolLM2-135M: 6."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What one rank does in one round."""

    micro_batch: int | None
    """Number of the micro-batch in its step; None for a rank that only keeps the others company, with weight 0."""

    shows_image: bool
    """Some rank shows an image in this round, so every rank must: shards are fetched from all ranks at once."""


def deal(tokens: Sequence[int], images: Sequence[int], world: int) -> list[list[Slot]]:
    """Deal the micro-batches of a step out to `world` ranks; return the slots of each rank, equally many for all.

    `tokens` and `images` are how many each micro-batch has. It depends on nothing else, so every rank knows what all
    do. Ranks wait for each other in every round, so a round takes micro-batches of like cost; within it the dearest
    goes to the rank that has had least. Micro-batches with images share as few rounds as they can, the last ones:
    the gradients are reduced in the last round, and where only vision and projector learn, text gives none.
    """
    costs = [count + IMAGE_COST * shown for count, shown in zip(tokens, images, strict=True)]
    dearest_first = sorted(range(len(costs)), key=lambda number: (images[number] == 0, -costs[number]))
    slots: list[list[Slot]] = [[] for _ in range(world)]
    spent = [0] * world
    for start in range(0, len(costs), world):
        chosen = sorted(dearest_first[start : start + world], key=lambda number: -costs[number])
        shows_image = any(images[number] for number in chosen)
        for place, rank in enumerate(sorted(range(world), key=spent.__getitem__)):
            micro_batch = chosen[place] if place < len(chosen) else None
            slots[rank].append(Slot(micro_batch, shows_image))
            spent[rank] += 0 if micro_batch is None else costs[micro_batch]
    return [list(reversed(of_rank)) for of_rank in slots]


def keep_company(
    processor: LlavaProcessor, slot: Slot, encoded: Sequence[Encoded], images: Sequence[Tensor]
) -> tuple[list[Encoded], list[Tensor]]:
    """Return conversations and images of a slot, with a blank one where the other ranks run what these would not.

    The blank conversation is one image of the mean colour, or one token. It has no label and nobody attends to it, so
    it adds exactly 0 to the loss of the text and to every gradient, by the very path that the others take.
    """
    if slot.shows_image and not images:
        count, side = image_token_count(processor), image_side(processor)
        blank = Encoded([processor.image_token_id] * count, [IGNORED] * count, (0,))
        return [*encoded, blank], [torch.zeros(3, side, side)]
    if not encoded:
        return [Encoded([processor.tokenizer.eos_token_id], [IGNORED])], []
    return list(encoded), list(images)
