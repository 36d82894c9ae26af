"""A benchmark in the form of GMAI-MMBench, made of the test split of a corpus."""

from gmai_vl.evaluation.construction.build import Built, build_benchmark

__all__ = ["Built", "build_benchmark"]
