"""The reward of a response: its parts, each 0-1, times their weights, added up.

| weights | response to "CT (A) or MRI (B)?", where B is right | total |
|---|---|---|
| as they are | `<think>t</think><answer>B</answer>` | 1.5 |
| as they are | `<think>t</think><answer>A</answer>` | 0.5 |
| as they are | `t <answer>B</answer>` | 1 |
| as they are | `B` | 0 |
| accuracy 2, format 0 | `<think>t</think><answer>B</answer>` | 2 |
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from gmai_vl.evaluation import Question
from gmai_vl.foundation import Settings
from gmai_vl.reasoning.rewards.accuracy import accuracy_reward
from gmai_vl.reasoning.rewards.facts import facts_reward
from gmai_vl.reasoning.rewards.format import format_reward
from gmai_vl.reasoning.rewards.grounding import grounding_reward
from gmai_vl.reasoning.rewards.length import LONGEST, USUAL, length_reward
from gmai_vl.records import Case

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Weights(Settings):
    """What each part of a reward counts. At least one counts."""

    format: Weight = 0.5
    accuracy: Weight = 1.0
    grounding: Weight = 0.0
    facts: Weight = 0.0
    length: Weight = 0.0

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if not 0 < sum(self.model_dump().values()) < math.inf:
            raise ValueError(
                "the weights add up to nothing, or to more than a number holds; give one of them, such as 1"
            )
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewarded:
    """What a response earned."""

    parts: Mapping[str, float]
    """Name -> 0-1, of the parts that have a weight."""

    total: float
    """Their weighted sum, from 0 to the sum of the weights."""

    faults: tuple[str, ...] = ()
    """`name: type of the exception` of every part that could not be computed, and counts as 0."""


def reward(
    question: Question,
    response: str,
    weights: Weights,
    case: Case | None = None,
    *,
    usual: int = USUAL,
    longest: int = LONGEST,
) -> Rewarded:
    """Return what a response earns. Parts without weight are not computed; `facts` is 0 without a `case`.

    `usual` and `longest` are those of the length. Raises nothing: what a part raises stands in `faults`.
    """
    computed: dict[str, Callable[[], float]] = {
        "format": lambda: format_reward(question, response),
        "accuracy": lambda: accuracy_reward(question, response),
        "grounding": lambda: grounding_reward(question, response),
        "facts": lambda: 0.0 if case is None else facts_reward(question, response, case),
        "length": lambda: length_reward(question, response, usual, longest),
    }
    parts: dict[str, float] = {}
    faults = []
    for name, weight in weights.model_dump().items():
        if not weight:
            continue
        try:
            parts[name] = computed[name]()
        # A model under training writes what nobody thought of, and one such text in a million must not end a run of
        # days. So whatever it is, it earns nothing and shows in the run's counts.
        except Exception as error:  # noqa: BLE001
            parts[name] = 0.0
            faults.append(f"{name}: {type(error).__name__}")
    total = sum(getattr(weights, name) * value for name, value in parts.items())
    return Rewarded(parts=parts, total=total, faults=tuple(faults))
