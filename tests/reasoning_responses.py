"""Questions and responses to reward: a scan that is asked about, a chest X-ray, and how a thought is written."""

import numpy as np
from evaluation_samples import question

from gmai_vl.reasoning.rewards import Weights
from gmai_vl.records import Case, Finding, ImageRef, Turn
from gmai_vl.vocabulary import term

ASKED = "Is this scan CT or MRI?\nA. CT\nB. MRI"
SCAN = question(1, turns=(Turn("user", (ImageRef(0), ASKED)),), options={"A": "CT", "B": "MRI"}, answer="B")
EVERYTHING = Weights(format=1, accuracy=1, grounding=1, facts=1, length=1)
EXACT = "[0.10, 0.20, 0.30, 0.60]"
"""The only box of grounding(1, (10, 10, 30, 30)), as an answer writes it."""


def thinking(thought, answer="B"):
    return f"<think>{thought}</think><answer>{answer}</answer>"


def about(words, answer, **changes):
    return question(2, **{"turns": (Turn("user", (ImageRef(0), words)),), "options": None, "answer": answer} | changes)


def xray():
    """Return a chest X-ray with a pneumothorax on its left, where an effusion and a nodule were looked for."""
    box = (10, 10, 30, 30)
    found = Finding(label=term("pneumothorax"), source_label="pneumothorax", box=box, area_share=0.04, side="left")
    return Case(
        source="s",
        item="a.png",
        pixels=np.zeros((100, 100), np.uint8),
        modality="X-Ray",
        task="det",
        findings=(found,),
        label_set=tuple(term(name) for name in ("pneumothorax", "pleural effusion", "lung nodule")),
        body_part=term("chest"),
    )
