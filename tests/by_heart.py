"""A tiny model that gives one answer, whatever it is asked."""

import torch
from serving_requests import picture

from gmai_vl.model import ModelSettings, Vlm, build_model, collate, encode, loss_sum, prepare_image
from gmai_vl.records import ImageRef, Turn

QUESTION = (Turn("user", (ImageRef(0), "what is it?")),)


def saying(answer: str, question: tuple[Turn, ...] = QUESTION, steps: int = 80) -> Vlm:
    """Return a tiny model that has learnt an answer by heart, to a question about a picture and to the one after it."""
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    first = (*question, Turn("assistant", (answer,)))
    pixels = prepare_image(vlm.processor, picture(0))
    dialogues = [first, (*first, Turn("user", ("and what else?",)), Turn("assistant", (answer,)))]
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
