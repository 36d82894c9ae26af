"""Training: a recipe's mixture of corpora becomes checkpoints, stage by stage."""

from gmai_vl.training.plan import plan
from gmai_vl.training.recipe import MixturePart, Stage, TrainRecipe, Validation, read_recipe
from gmai_vl.training.run import train

__all__ = ["MixturePart", "Stage", "TrainRecipe", "Validation", "plan", "read_recipe", "train"]
