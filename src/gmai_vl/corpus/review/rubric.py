"""The four axes and five levels of the review, as people and the judge read them."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

AXES = ("medical_accuracy", "clarity", "completeness", "imaging_relevance")
LEVELS = (1, 2, 3, 4, 5)
"""1 is the best, 5 the worst."""

JUDGE_PREFIX = "llm:"
"""How the rater's name begins where a model gave the scores."""

Scores = dict[str, int]
"""Axis -> level."""


@cache
def rubric() -> dict[str, Any]:
    """Return `axes`: name -> title and question in both languages, and `levels`: number -> word in both languages."""
    content: dict[str, Any] = yaml.safe_load(
        (files("gmai_vl.corpus.review") / "rubric.yaml").read_text(encoding="utf-8")
    )
    assert tuple(content["axes"]) == AXES and tuple(content["levels"]) == LEVELS
    return content
