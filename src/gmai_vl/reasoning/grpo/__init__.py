"""Reinforcement learning on questions with one right answer: GRPO, by TRL, on our checkpoints and rewards."""

from gmai_vl.reasoning.grpo.recipe import Bounds, GrpoRecipe, GrpoSettings, read_grpo_recipe
from gmai_vl.reasoning.grpo.run import grpo

__all__ = ["Bounds", "GrpoRecipe", "GrpoSettings", "grpo", "read_grpo_recipe"]
