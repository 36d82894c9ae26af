"""Questions made by hand for the tests of evaluation."""

from typing import Any

import numpy as np

from gmai_vl.evaluation import Question
from gmai_vl.records import ImageRef, Region, Turn


def question(number: int, **changes: Any) -> Question:
    """Return a multiple-choice question about an image of its own, with `changes`."""
    fields: dict[str, Any] = {
        "id": f"q{number:03}",
        "kind": "mcq",
        "language": "en",
        "turns": (Turn("user", (ImageRef(0), f"Which modality is number {number}?")),),
        "images": (f"image{number:03}",),
        "width": 100,
        "height": 50,
        "options": {"A": "CT", "B": "MRI", "C": "X-ray"},
        "answer": "A",
        "form": "modality",
        "modality": "CT",
        "task": "cls",
        "source": "s",
        "patient_id": f"p{number // 2}",
    }
    fields |= changes
    return Question(**{"stem": fields["turns"][-1].text} | fields)


def image_of(name: str) -> np.ndarray:
    """Return the pixels of `image007`, noise of its own."""
    return np.random.default_rng(int(name[5:])).integers(0, 256, (30, 40, 3), np.uint8)


def grounding(number: int, *boxes: tuple[int, int, int, int], **changes: Any) -> Question:
    """Return a question for `boxes` in an image of 100 x 50 pixels."""
    regions = tuple(Region(label="mass", box=box) for box in boxes)
    fixed = {"kind": "grounding", "form": "grounding", "subject": "mass", "options": None, "answer": ""}
    return question(number, regions=regions, **fixed | changes)
