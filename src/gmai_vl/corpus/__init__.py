"""Instruction data on disk: built from a recipe, resumable, verifiable, traceable.

Plots and the page to browse need more libraries: `gmai_vl.corpus.stats.stats`, `gmai_vl.corpus.browse.browse`.
"""

from gmai_vl.corpus.build import Summary, build
from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.recipe import DataRecipe, read_recipe
from gmai_vl.corpus.trace import trace
from gmai_vl.corpus.verify import verify

__all__ = ["Corpus", "DataRecipe", "Summary", "build", "read_recipe", "trace", "verify"]
