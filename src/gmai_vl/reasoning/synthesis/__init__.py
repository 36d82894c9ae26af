"""Reasoning data by rejection sampling: a teacher thinks aloud several times, and only thoughts that hold are kept."""

from gmai_vl.reasoning.synthesis.recipe import Demands, SynthesisRecipe, SynthesisSettings, read_synthesis_recipe
from gmai_vl.reasoning.synthesis.run import Synthesis, synthesize
from gmai_vl.reasoning.synthesis.traces_corpus import traces_corpus

__all__ = [
    "Demands",
    "Synthesis",
    "SynthesisRecipe",
    "SynthesisSettings",
    "read_synthesis_recipe",
    "synthesize",
    "traces_corpus",
]
