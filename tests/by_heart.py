"""Tiny models that know conversations by heart."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from serving_requests import picture

from gmai_vl.model import ModelSettings, Vlm, build_model, collate, encode, loss_sum, prepare_image
from gmai_vl.records import ImageRef, Turn

QUESTION = (Turn("user", (ImageRef(0), "what is it?")),)


def saying(answer: str, question: tuple[Turn, ...] = QUESTION, steps: int = 80) -> Vlm:
    """Return a model that has learnt an answer by heart, to a question about a picture and to the one after it."""
    first = (*question, Turn("assistant", (answer,)))
    second = (*first, Turn("user", ("and what else?",)), Turn("assistant", (answer,)))
    return taught([first, second], picture(0), steps)


def taught(dialogues: Sequence[tuple[Turn, ...]], image: NDArray[Any], steps: int) -> Vlm:
    """Return a model that has seen dialogues about one image, [H, W] or [H, W, 3], in so many steps."""
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    pixels = prepare_image(vlm.processor, image)
    conversations = [encode(vlm.processor, turns) for turns in dialogues]
    batch = collate(vlm.processor, conversations, [pixels] * len(conversations))
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(vlm.model.parameters(), lr=3e-3)
    for _ in range(steps):
        total, tokens = loss_sum(vlm.model, batch)
        optimizer.zero_grad()
        (total / tokens).backward()
        optimizer.step()
    vlm.model.eval()
    return vlm
