"""Reinforcement learning on questions with one right answer: GRPO, by TRL, on our checkpoints and rewards."""

from gmai_vl.reasoning.grpo.recipe import GrpoRecipe, read_grpo_recipe
from gmai_vl.reasoning.grpo.run import grpo

__all__ = ["GrpoRecipe", "grpo", "read_grpo_recipe"]
