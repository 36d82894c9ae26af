"""Guided by the annotation or from the image alone: the same images, the same model, the same verifier."""

from gmai_vl.corpus.compare.pairs import Pair, Side, compare_writers
from gmai_vl.corpus.compare.report import Comparison, summary_of, write_report

__all__ = ["Comparison", "Pair", "Side", "compare_writers", "summary_of", "write_report"]
