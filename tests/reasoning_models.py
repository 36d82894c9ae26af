"""Tiny checkpoints for tests of reasoning that know the form of an answer by heart."""

from pathlib import Path

import torch

from gmai_vl.model import ModelSettings, build_model, collate, encode, loss_sum, prepare_image, save_model
from gmai_vl.reasoning.items import read_items
from gmai_vl.records import Turn


def save_taught(questions: Path, folder: Path, letters: str, thought: str = "t", steps: int = 60) -> None:
    """Save a checkpoint that thinks one thought whatever it sees, and says any of the letters, each as likely."""
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    items = read_items(questions, "train")
    question = items.questions[0]
    answers = [Turn("assistant", (f"<think>{thought}</think><answer>{letter}</answer>",)) for letter in letters]
    pixels = prepare_image(vlm.processor, items.image(question.images[0]))
    conversations = [encode(vlm.processor, (*question.turns, answer)) for answer in answers]
    batch = collate(vlm.processor, conversations, [pixels] * len(letters))
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(vlm.model.parameters(), lr=3e-3)
    for _ in range(steps):
        total, tokens = loss_sum(vlm.model, batch)
        optimizer.zero_grad()
        (total / tokens).backward()
        optimizer.step()
    save_model(vlm, folder)
