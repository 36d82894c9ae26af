"""What a response earns in reinforcement learning: for form, answer, boxes, facts and length; and signs of misuse."""

from gmai_vl.reasoning.rewards.accuracy import accuracy_reward
from gmai_vl.reasoning.rewards.combine import Rewarded, Weights, reward
from gmai_vl.reasoning.rewards.facts import facts_reward
from gmai_vl.reasoning.rewards.format import format_reward, parts_of
from gmai_vl.reasoning.rewards.grounding import grounding_reward
from gmai_vl.reasoning.rewards.hacking import count_hacks
from gmai_vl.reasoning.rewards.length import length_reward

__all__ = [
    "Rewarded",
    "Weights",
    "accuracy_reward",
    "count_hacks",
    "facts_reward",
    "format_reward",
    "grounding_reward",
    "length_reward",
    "parts_of",
    "reward",
]
"""Names that other rooms use."""
