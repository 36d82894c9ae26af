"""Tiny checkpoints for tests of reasoning that know the form of an answer by heart."""

from pathlib import Path

from by_heart import taught

from gmai_vl.model import save_model
from gmai_vl.reasoning.items import read_items
from gmai_vl.records import Turn


def save_taught(questions: Path, folder: Path, letters: str, thought: str = "t", steps: int = 60) -> None:
    """Save a checkpoint that thinks one thought whatever it sees, and says any of the letters, each as likely."""
    items = read_items(questions, "train")
    question = items.questions[0]
    answers = [Turn("assistant", (f"<think>{thought}</think><answer>{letter}</answer>",)) for letter in letters]
    dialogues = [(*question.turns, answer) for answer in answers]
    save_model(taught(dialogues, items.image(question.images[0]), steps), folder)
